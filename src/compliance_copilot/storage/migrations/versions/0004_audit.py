"""Step 0004."""

from compliance_copilot.storage.migrations.applying import apply

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Apply `sql/0004_audit.sql`."""
    apply("0004_audit.sql")
