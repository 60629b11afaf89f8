"""Step 0002."""

from compliance_copilot.storage.migrations.applying import apply

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Apply `sql/0002_policies.sql`."""
    apply("0002_policies.sql")
