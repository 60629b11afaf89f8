"""Step 0009."""

from compliance_copilot.storage.migrations.applying import apply

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Apply `sql/0009_jobs.sql`."""
    apply("0009_jobs.sql")
