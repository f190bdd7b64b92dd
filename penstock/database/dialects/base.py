"""A database as Penstock sees it. The values here are those of a database that has no file of its own."""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.engine import URL

from penstock.errors import HorizonHidden
from penstock.run_types import Horizon, TablePlaces

BUSY_SECONDS = 60
"""How long a statement waits for a lock."""
ANSWER_SECONDS = 10
"""Extra seconds to wait for a server after a statement's limit, so that its own timeout reports first."""
Type = sa.types.TypeEngine[Any]
Element = sa.ColumnElement[Any]
Reading = Callable[[], AbstractContextManager[sa.Connection]]
"""Opens a connection for reading."""


@dataclass(frozen=True)
class TableFacts:
    """What decides how a table's rows are cut into partitions."""

    has_time_index: bool
    """Whether a range of the event time can be read without reading the other rows."""
    unique: tuple[frozenset[str], ...] = ()
    """The sets of columns that the database keeps unique."""
    places: TablePlaces | None = None
    """All places of the table, if ranges of them can be read."""
    is_scattered: bool = False
    """Whether rows of one time are in places far from each other, as far as the database knows."""


class SqlDialect:
    """Facts of a database, and the SQL that differs from one to the next."""

    names: tuple[str, ...]
    """SQLAlchemy's names for it."""
    title = ""
    """Its name in messages. Empty: as SQLAlchemy has it."""
    is_warehouse = False
    """Whether it may have the ledger and the scores."""
    is_tested = False
    """Whether Penstock's tests read it."""
    takes_merges = False
    """Whether scores can be merged into its tables."""
    driver: str | None = None
    """The driver for a URL that names none."""
    only_driver = False
    """Whether its values are right with this driver only."""
    extra: str | None = None
    """The extra of Penstock's package that installs the driver."""
    modules: tuple[str, ...] = ()
    """The packages whose exceptions are those of its drivers."""

    # How it is reached
    is_file = False
    """Whether it is a file on this machine."""
    one_process = False
    """Whether only one process at a time can open its file for writing."""
    one_writer = False
    """Whether a second writer waits until the first has ended."""
    shares_snapshots = False
    """Whether several connections can read one moment."""
    changes_between_reads = False
    """Whether partitions may read different moments, so that the audit compares the fingerprint again."""
    has_server_clock = False
    """Whether leases go by its clock."""

    # How rows travel
    bulk: Literal["adbc", "duckdb", "rows"] = "rows"
    """The mechanism in `database.bulk`: ADBC, DuckDB's bridge to Arrow, or rows by SQLAlchemy."""
    reads_one_at_a_time = False
    """Whether two threads that read at once slow each other down."""
    reads_apart = False
    """Whether large results are read in another process (`database.sqlite_reader`)."""
    takes_driver_values = False
    """Whether `as_array` reads the driver's values, before SQLAlchemy converts them."""
    values_as_declared = True
    """Whether a column's values have its declared type. SQLite's need not."""
    writes_zones = False
    """Whether a time is written with its zone."""
    compares_zones = False
    """Whether a time with a zone can be compared with a column."""
    time_types: Literal["named", "plain", "none"] = "plain"
    """Event times: by the name of the column's type, as plain timestamps in UTC, or as texts and numbers (SQLite)."""
    has_infinite_times = False
    case_sensitive_tables = False
    """Whether `Payments` and `payments` are two tables."""
    has_schemas = True
    mixes_types = False
    """Whether a column can have numbers and texts."""

    # How the warehouse is written
    max_digits: int | None = None
    """The most digits of an exact number. None: enough for every one that Penstock writes."""
    alters_types = False
    """Whether it changes the type of a column in place."""
    replaces_views = False
    """Whether it replaces a view in place, so that it keeps its grants and the views on it."""
    has_partial_indexes = False
    keys_history = True
    """Whether the history table has a primary key. Without one the audit searches a run's rows for doubled keys."""
    row_address: str | None = None
    """The column with the place of a row."""

    # What its errors mean, by the first characters of a code or by words
    collision_codes: tuple[str, ...] = ("23505",)
    denied_codes: tuple[str, ...] = ("28", "42501", "3D000")
    full_codes: tuple[str, ...] = ("53100",)
    locked_codes: tuple[str, ...] = ("55P03",)
    transient_codes: tuple[str, ...] = ("08", "40", "53", "57P", "57014", "55P03", "25P03")
    collision_words = re.compile(r"(?!)")
    denied_words = re.compile(r"permission denied|Access denied", re.IGNORECASE)
    full_words = re.compile(r"No space left on device")
    locked_words = re.compile(r"(?!)")
    lost_snapshot_words = re.compile(r"(?!)")
    standby_words = re.compile(r"(?!)")

    def __init__(self, names: tuple[str, ...] = ()) -> None:
        self.names = names or type(self).names
        self.title = type(self).title or self.names[0]

    def error_code(self, error: BaseException) -> str:
        """Return the code that the tables of codes have, or an empty text."""
        return str(getattr(error, "sqlstate", None) or "")

    def error_text(self, error: BaseException) -> str:
        """Return what the database says."""
        return str(error)

    def is_passing(self, error: BaseException, reason: str) -> bool:
        """Whether an error without a code may pass."""
        return type(error).__name__ in ("OperationalError", "IOException", "InterfaceError")

    # Engines

    def make_engine(self, url: URL, statement_seconds: int) -> sa.Engine:
        """Make the engine of a URL."""
        return sa.create_engine(url, hide_parameters=True, pool_pre_ping=True)

    def now(self, connection: sa.Connection) -> datetime:
        """Read the clock for leases. Only a server's is shared by all machines."""
        return datetime.now(UTC)

    def identify(self, connection: sa.Connection) -> str | None:
        """Return a text that is the same from each machine and differs for another database. None: there is none."""
        return None

    def enter_snapshot(self, snapshot: str) -> tuple[str, ...]:
        """Return the statements that let a transaction enter a shared snapshot."""
        raise ValueError(f"{self.title} has no shared snapshots")

    def export_snapshot(self, connection: sa.Connection) -> str:
        """Export the snapshot of a new transaction. Return what others enter it with."""
        raise ValueError(f"{self.title} has no shared snapshots")

    def wait_for_lock(self, milliseconds: int) -> str | None:
        """Return the statement that limits the wait for a lock in this transaction. None if there is none."""
        return None

    def lock_transaction(self, number: int) -> "sa.Select[Any] | None":
        """Return the query that takes a lock until the transaction ends. None where writers take turns anyway."""
        return None

    def read_horizon(self, connection: sa.Connection, name: str) -> Horizon:
        """Return the begin of the oldest open transaction.

        Raises:
            HorizonHidden: it does not show them.
        """
        raise HorizonHidden(name, f"{self.title} does not show which transactions are open")

    # Reading a source

    def reflected_name(self, name: str) -> str:
        """Return a column's name for a reflected one."""
        return name

    def describe_table(self, connection: sa.Connection, table: str) -> tuple[tuple[Any, ...], ...]:
        """Describe the columns of all tables of a name, where that is much quicker than SQLAlchemy. Else empty."""
        return ()

    def reflected(self, kind: Type) -> Type:
        """Return the type to work with for a reflected one."""
        return kind

    def describe(self, cursor: Any, names: Sequence[str]) -> list[Type | None]:
        """Return the types of a query's columns by the driver's description of its result."""
        return [None] * len(names)

    def readable(self, column: Element) -> Element:
        """Return the expression to select for a column."""
        return column

    def orderable(self, element: Element) -> Element:
        """Return the expression that the column is compared and ordered by."""
        return as_text(element) if isinstance(element.type, sa.Uuid | sa.Boolean) else element

    def cut_by(self, element: Element) -> Element:
        """Return the expression that whole groups of `partition_by` are compared by."""
        return self.orderable(element)

    def extreme(self, function: Callable[[Element], Element], element: Element) -> Element:
        """Return the smallest or largest value of a column, as the fingerprint has it."""
        return function(self.orderable(element))

    def sum_of_changes(self, changed: Element) -> Element | None:
        """Return a sum of hashes over all values of `updated_column`."""
        return None

    def percentiles(self, along: Element, shares: list[float]) -> Element | None:
        """Return the values at some shares of the rows, if this is quicker than a window function."""
        return None

    def time_step(self, time: Element, first: int, step: int) -> Element | None:
        """Return the number of the step that a time is in, from the epoch second `first` on in steps of `step` seconds.

        None: partitions are not cut along the time.
        """
        return None

    def read_table_facts(self, connection: sa.Connection, table: sa.TableClause, time: str) -> TableFacts | None:
        """Return what decides how a table is cut. None for a view."""
        inspector = sa.inspect(connection)
        if table.name in inspector.get_view_names(schema=table.schema):
            return None
        name, schema = table.name, table.schema
        whole = [i for i in inspector.get_indexes(name, schema=schema) if not _is_partial(i)]
        unique: list[Sequence[str | None]] = [
            inspector.get_pk_constraint(name, schema=schema)["constrained_columns"],
            *(constraint["column_names"] for constraint in inspector.get_unique_constraints(name, schema=schema)),
            *(index["column_names"] for index in whole if index["unique"]),
        ]
        leading = {columns[0] for columns in (*unique, *(index["column_names"] for index in whole)) if columns}
        kept = [frozenset(filter(None, columns)) for columns in unique if columns and None not in columns]
        return TableFacts(time in leading, tuple(kept))

    def share_of_keys(self, key: Sequence[Element], number: int, shares: int) -> Element | None:
        """Return the condition for one of several shares of the rows, or None. Equal keys are in one share."""
        return None

    def in_places(self, table: sa.TableClause, places: TablePlaces) -> "list[sa.ColumnElement[bool]]":
        """Return the conditions for the rows in some places of a table."""
        raise ValueError(f"{self.title} does not read a table by places")

    def place_step(self, first: int, end: int, step: int) -> Element:
        """Return the number of the step that a row's place is in, from the place `first` on."""
        raise ValueError(f"{self.title} does not read a table by places")

    def query_columns(self, query: str) -> str | None:
        """Return the statement that describes a query's columns, if a subquery would rename twins."""
        return None

    def original_names(self, names: Sequence[str]) -> list[str]:
        """Return the names of a subquery's columns as the query has them."""
        return list(names)

    def time_type_name(self, reading: Reading, column: Element) -> str | None:
        """Return the name of an event time's type where the reflected one does not show it."""
        return None

    def without_time(self, time: Element) -> "sa.ColumnElement[bool]":
        """Return the condition that a row has no event time."""
        return time.is_(None)

    def as_time(self, column: str, *, is_number: bool) -> str:
        """Return the SQL of an event time from a column of another type, for a message."""
        return f"to_timestamp({column})" if is_number else f"cast({column} as timestamptz)"

    def as_array(self, values: Sequence[Any], kind: Type | None) -> "pa.Array[Any] | None":
        """Return a column's values in the type that it is described with. None: as the values show it."""
        return None

    # Writing the warehouse

    def exact_number(self, scale: int, precision: int | None) -> Type:
        """Return the type of an exact number."""
        return sa.Numeric() if precision is None else sa.Numeric(precision, scale)

    def bind_decimal(self, value: Decimal, *, key: bool) -> Any:
        """Return an exact number as the driver takes it."""
        return value

    def declared_types(self, table: sa.Table) -> "sa.Select[Any]":
        """Return the query for the names and declared types of a table's columns."""
        known = sa.table(
            "columns",
            *(sa.column(name) for name in ("table_schema", "table_name", "column_name", "data_type", "numeric_scale")),
            schema="information_schema",
        )
        schema = sa.func.current_schema() if table.schema is None else sa.literal(table.schema, sa.Text())
        shown = known.c.data_type + sa.literal(" ") + sa.func.coalesce(sa.cast(known.c.numeric_scale, sa.Text), "")
        mine = (known.c.table_schema == schema, known.c.table_name == sa.literal(table.name, sa.Text()))
        return sa.select(known.c.column_name, shown).where(*mine)

    def declared_type(self, kind: Type, declared: str) -> Type:
        """Return a column's type by its reflected and its declared one, where reflection is not exact."""
        return kind

    def keep_types(self, columns: Sequence[Element]) -> "sa.Select[Any] | None":
        """Return the query that keeps a table's types as they are until the transaction ends."""
        return None

    def view_grants(self, connection: sa.Connection, view: str) -> list[str]:
        """Return the statements that give others their rights on a view again."""
        return []

    def schema_names(self, connection: sa.Connection) -> list[str]:
        """Return the names of the database's schemas."""
        return sa.inspect(connection).get_schema_names()

    def grouped_number(self, number: Element) -> Element:
        """Return a whole number as text with commas between thousands."""
        return sa.func.printf("%,d", number, type_=sa.Text)

    def at_addresses(self, address: Element, chosen: "sa.Select[Any]") -> "sa.ColumnElement[bool]":
        """Return the condition that a row is at one of the chosen places."""
        return address.in_(chosen)

    def whole(self, name: str) -> str:
        """Return the SQL of a number without its fraction."""
        return f"floor({name})"

    def holds_double(self, kind: Type) -> bool:
        """Whether a column of a reflected type holds each float of 64 bits as it is."""
        return isinstance(kind, sa.Double)

    def is_boolean(self, kind: Type) -> bool:
        """Whether a column of a reflected type has only true and false."""
        return isinstance(kind, sa.Boolean)

    def reads_back(self, name: str, scale: int) -> str:
        """Return the SQL condition that a float is the decimal with so many digits after the point."""
        number = f"cast(cast({name} as text) as numeric)"
        return f"{number} = round({number}, {scale})"

    def exact_type(self, kind: Type, dialect: sa.Dialect) -> str:
        """Return the SQL of an exact number's type that stored values are converted to."""
        return kind.compile(dialect)

    def convert_exact(self, name: str, compiled: str) -> str:
        """Return the SQL of a whole or exact number in another exact type."""
        return f"cast({name} as {compiled})"

    def convert_float(self, name: str, scale: int, compiled: str, *, key: bool) -> str:
        """Return the SQL of a float as an exact number, rounded where it must be."""
        return f"round(cast(cast({name} as text) as numeric), {scale})"


def _is_partial(index: Mapping[str, Any]) -> bool:
    """Whether an index does not have all rows of its table."""
    return any(option.endswith("_where") for option in index.get("dialect_options", {}))


def as_text(element: Element) -> Element:
    return sa.cast(element, sa.Text)
