"""A database that Penstock does not know: SQLite under another name."""

from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite


class OddDialect(SQLiteDialect_pysqlite):
    name = "oddbase"
    supports_statement_cache = True
