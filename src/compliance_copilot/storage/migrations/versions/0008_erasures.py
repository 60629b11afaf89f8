"""Step 0008."""

from compliance_copilot.storage.migrations.applying import apply

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Apply `sql/0008_erasures.sql`."""
    apply("0008_erasures.sql")
