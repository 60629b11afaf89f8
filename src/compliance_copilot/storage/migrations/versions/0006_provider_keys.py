"""Step 0006."""

from compliance_copilot.storage.migrations.applying import apply

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Apply `sql/0006_provider_keys.sql`."""
    apply("0006_provider_keys.sql")
