"""What Penstock knows of each database, one file a dialect: facts and pieces of SQL, no mechanism."""

import sqlalchemy as sa

from penstock.database.dialects.base import SqlDialect, TableFacts
from penstock.database.dialects.duckdb import DuckdbDialect
from penstock.database.dialects.mysql import MysqlDialect
from penstock.database.dialects.postgresql import PostgresqlDialect
from penstock.database.dialects.sqlite import SqliteDialect

__all__ = ["DIALECTS", "MODULES", "SqlDialect", "TableFacts", "dialect_of", "find_dialect"]

DIALECTS: tuple[SqlDialect, ...] = (PostgresqlDialect(), SqliteDialect(), DuckdbDialect(), MysqlDialect())
"""The databases that are tested. Another one is another file, and an entry here."""
MODULES = frozenset(module for dialect in DIALECTS for module in dialect.modules)
"""The packages whose exceptions are those of drivers. Importing them all to compare types would take seconds."""
_BY_NAME = {name: dialect for dialect in DIALECTS for name in dialect.names}


def find_dialect(name: str) -> SqlDialect:
    """Return what is known of a database by SQLAlchemy's name for it. One that is not known reads as SQL's standard."""
    return _BY_NAME.get(name) or SqlDialect((name,))


def dialect_of(connection: sa.Connection) -> SqlDialect:
    """Return what is known of a connection's database."""
    return find_dialect(connection.dialect.name)
