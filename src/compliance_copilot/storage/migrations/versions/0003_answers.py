"""Step 0003."""

from compliance_copilot.storage.migrations.applying import apply

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Apply `sql/0003_answers.sql`."""
    apply("0003_answers.sql")
