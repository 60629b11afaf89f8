"""Step 0001."""

from compliance_copilot.storage.migrations.applying import apply

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Apply `sql/0001_tables.sql`."""
    apply("0001_tables.sql")
