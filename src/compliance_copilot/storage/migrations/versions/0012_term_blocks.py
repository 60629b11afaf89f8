"""Step 0012."""

from compliance_copilot.storage.migrations.applying import apply

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Apply `sql/0012_term_blocks.sql`."""
    apply("0012_term_blocks.sql")
