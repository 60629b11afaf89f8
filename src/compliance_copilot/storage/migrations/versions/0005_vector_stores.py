"""Step 0005."""

from compliance_copilot.storage.migrations.applying import apply

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Apply `sql/0005_vector_stores.sql`."""
    apply("0005_vector_stores.sql")
