"""Step 0010."""

from compliance_copilot.storage.migrations.applying import apply

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Apply `sql/0010_conversations.sql`."""
    apply("0010_conversations.sql")
