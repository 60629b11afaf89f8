"""What each numbered step of `versions/` calls."""

from alembic import op
from sqlalchemy.util import await_only

from compliance_copilot.storage.migrations import read_sql


def apply(name: str) -> None:
    """Run one file of `sql/` whole, inside the upgrade's transaction.

    The file goes to the server in one piece: no client has to find where a statement of a
    function body ends.
    """
    op.execute("SET LOCAL lock_timeout = '30s'")  # also opens the driver's transaction
    driver = op.get_bind().connection.driver_connection
    await_only(driver.execute(read_sql(name)))  # type: ignore[union-attr]  # always connected
