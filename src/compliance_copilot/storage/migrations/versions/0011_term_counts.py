"""Step 0011."""

from compliance_copilot.storage.migrations.applying import apply

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Apply `sql/0011_term_counts.sql`."""
    apply("0011_term_counts.sql")
