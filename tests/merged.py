"""A table of another system that scores are merged into."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from penstock.database.connections import Database

MERGE = """
deliver:
  - kind: merge
    name: crm
    connection: crm
    table: Order Customers
    on: {"Select": payment_id}
    set: {'Risk "now"': score, country: country}
"""


@dataclass(frozen=True)
class Customers:
    """A table with names that must be quoted, and a column of its own."""

    database: Database

    @cached_property
    def table(self) -> sa.Table:
        return sa.Table(
            "Order Customers",
            sa.MetaData(),
            sa.Column("Select", sa.BigInteger, primary_key=True, autoincrement=False),
            sa.Column("note", sa.String(20)),
            sa.Column('Risk "now"', sa.Double),
            sa.Column("country", sa.String(20)),
        )

    def create(self, keys: Sequence[int]) -> None:
        with self.database.writing() as connection:
            self.table.create(connection)
            connection.execute(self.table.insert(), [{"Select": key, "note": f"about {key}"} for key in keys])

    def rows(self) -> dict[int, tuple[Any, ...]]:
        """Return note, risk and country by key."""
        with self.database.reading() as connection:
            return {key: tuple(rest) for key, *rest in connection.execute(sa.select(self.table))}

    def scores(self) -> dict[int, Any]:
        """Return the risk of each key that has one."""
        return {key: risk for key, (_, risk, _) in self.rows().items() if risk is not None}
