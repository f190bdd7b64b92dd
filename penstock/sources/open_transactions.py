"""Find the time up to which a source is complete: the begin of its oldest open transaction.

A row's event time may be the begin of its transaction, and others see the row only after the commit. A read before the
commit misses it. So the horizon is the begin of the oldest open transaction, by the database's clock.
"""

from penstock.database.connections import Database
from penstock.run_types import Horizon


def read_horizon(database: Database) -> Horizon:
    """Find the oldest open transaction. Call this before reading rows, because one may commit in between.

    Raises:
        HorizonHidden: the database does not show transactions, or not to this user.
    """
    with database.reading() as connection:
        return database.sql.read_horizon(connection, database.name)
