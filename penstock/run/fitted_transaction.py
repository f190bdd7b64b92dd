"""A transaction in which tables take the rows that are to be appended: their types cannot change before it ends."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import sqlalchemy as sa

from penstock.database.bulk import BulkTransaction, bulk_transaction
from penstock.database.connections import Database
from penstock.errors import DatabaseUnavailable
from penstock.run.history_table import keeps_types
from penstock.spec.pipeline_fields import Destination

Tables = tuple[sa.Table | None, ...]
"""The tables to append to. None: there are no rows for it."""


@contextmanager
def fitted_transaction(
    database: Database, destination: Destination, prepare: Callable[[bool], Tables]
) -> Iterator[tuple[BulkTransaction, Tables]]:
    """Open a transaction in which the tables have the types that `prepare` has seen.

    Another partition may change a type between the look at a table and the transaction. Then look again.

    Args:
        prepare: Makes the tables ready. Its argument says whether to look at them even if this process knows them.

    Raises:
        DatabaseUnavailable: the types change at each look.
    """
    with ExitStack() as opened:
        for again in (False, True, True):
            tables = prepare(again)
            transaction = opened.enter_context(bulk_transaction(database))
            if all(keeps_types(transaction, database.sql, table) for table in tables if table is not None):
                break
            opened.close()
        else:
            raise DatabaseUnavailable(
                database.name,
                f"the types of `{destination.table}` change all the time",
                "Run again when no other run changes them.",
            )
        yield transaction, tables
