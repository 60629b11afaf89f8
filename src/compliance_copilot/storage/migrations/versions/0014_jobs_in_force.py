"""Step 0014."""

from compliance_copilot.storage.migrations.applying import apply

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Apply `sql/0014_jobs_in_force.sql`."""
    apply("0014_jobs_in_force.sql")
