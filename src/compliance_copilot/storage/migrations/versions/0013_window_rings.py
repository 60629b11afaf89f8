"""Step 0013."""

from compliance_copilot.storage.migrations.applying import apply

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Apply `sql/0013_window_rings.sql`."""
    apply("0013_window_rings.sql")
