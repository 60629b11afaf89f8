"""Step 0007."""

from compliance_copilot.storage.migrations.applying import apply

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Apply `sql/0007_documents.sql`."""
    apply("0007_documents.sql")
