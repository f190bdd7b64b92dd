"""The features query: DuckDB SQL over one partition's rows of all sources, one row per key.

DuckDB runs closed: without files, network or settings. The query sees one partition of the primary source at a time,
so a primary row's features must not depend on other primary rows. It may aggregate the other sources.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import duckdb
import pyarrow as pa

from penstock.database.bulk import fetch_relation, prepare_fetch
from penstock.database.closed_duckdb import ClosedDuckdb, TableConnection, may_quote_values
from penstock.database.deadlines import Watchdog
from penstock.database.normalize import normalized
from penstock.errors import FeaturesError, Halted
from penstock.privacy.masking import HIDDEN
from penstock.run.keys import has_same_keys, key_problems, quoted, registered_features
from penstock.run.text_macros import create_text_macros
from penstock.sources.logs.formats import row_schema
from penstock.spec.parts import twin_names
from penstock.spec.pipeline import Pipeline
from penstock.spec.sources import LogSource

_QUERIES = (duckdb.StatementType.SELECT, duckdb.StatementType.MULTI)  # `pivot` is several statements inside


def build_features(
    pipeline: Pipeline,
    interval_label: str,
    primary: pa.Table,
    others: dict[str, pa.Table],
    statement_seconds: int,
    *,
    others_stand: bool = False,
) -> pa.Table:
    """Return the features of a partition's primary rows: key, features, kept columns.

    Args:
        statement_seconds: how long the query may take.
        others_stand: whether the other tables stay from one call to the next, so that what is made of them is kept.

    Raises:
        FeaturesError: the query fails, is not a single select, takes too long, or does not select the key.
        Halted: a key has two rows, or is not in the primary source.
    """
    if pipeline.features is None:
        return normalized(primary)  # nested values become JSON
    standing = others if others_stand else ()
    with _DUCKDB.connect_tables({pipeline.primary: primary, **others}, standing) as connection:
        features = _run_query(connection, pipeline, pipeline.features, statement_seconds)
        lacking = [c for c in pipeline.key if c not in features.column_names]
        if lacking:
            names = ", ".join(f"`{c}`" for c in lacking)
            raise FeaturesError(pipeline.name, f"does not select the key {names}. Add it: each score needs its key.")
        problems = key_problems(connection.raw, pipeline, primary, features)
        if problems:
            raise Halted(pipeline.name, interval_label, problems)
        return _with_kept(connection.raw, pipeline, primary, features)


class _Interruptible(Protocol):
    def interrupt(self) -> None: ...


_DUCKDB = ClosedDuckdb(create_text_macros)
_WATCHDOG = Watchdog()


def closed_duckdb(tables: Mapping[str, pa.Table]) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
    """Open a DuckDB with these tables and the text macros, without access to anything outside of it."""
    return _DUCKDB.connect(tables)


def closed_tables(tables: Mapping[str, pa.Table]) -> AbstractContextManager[TableConnection]:
    """Open the same DuckDB with these tables, or take a connection that had tables with the same columns."""
    return _DUCKDB.connect_tables(tables)


@contextmanager
def time_limit(connection: _Interruptible, seconds: int) -> Iterator[None]:
    """Interrupt what runs on the connection after so many seconds."""
    watched = _WATCHDOG.watch(connection.interrupt, seconds)
    try:
        yield
    finally:
        _WATCHDOG.leave(watched)


def _run_query(connection: TableConnection, pipeline: Pipeline, query: str, seconds: int) -> pa.Table:
    """Run the one select of the spec, for at most so many seconds."""

    def prepare(raw: duckdb.DuckDBPyConnection) -> Callable[[], pa.Table]:
        kinds = [statement.type for statement in raw.extract_statements(query)]
        if len(kinds) != 1 or kinds[0] not in _QUERIES:
            raise FeaturesError(pipeline.name, "must be a single `select`. Fix `features:` in the spec.")
        return prepare_fetch(raw.sql(query), lambda relation: connection.plan_once(relation, 1))

    try:
        with time_limit(connection, seconds):
            exact = (*pipeline.key, *pipeline.destination.keep)
            features = normalized(connection.keep(query, prepare)(), exact=exact)
    except duckdb.InterruptException as error:
        reason = f"took longer than {seconds} s. Fix its joins, or set PENSTOCK_STATEMENT_SECONDS to more."
        raise FeaturesError(pipeline.name, reason) from error
    except duckdb.Error as error:
        error = _with_all_columns(connection.raw, pipeline, query, error)
        reason = " ".join(str(error).split("LINE ")[0].split())
        if pipeline.private_columns and may_quote_values(error):
            hidden = f"fails: {type(error).__name__} {HIDDEN}. Fix `features:` in the spec."
            raise FeaturesError(pipeline.name, hidden) from None
        raise FeaturesError(pipeline.name, f"fails: {reason}. Fix `features:` in the spec.") from error
    if twins := twin_names(features.column_names):
        names = ", ".join(f"`{name}`" for name in twins)
        reason = f"has more than one column of a name: {names} (upper and lower case are the same)."
        raise FeaturesError(pipeline.name, f"{reason} Select each once, or give it another name with `as`.")
    return features


def _with_all_columns(
    connection: duckdb.DuckDBPyConnection, pipeline: Pipeline, query: str, error: duckdb.Error
) -> duckdb.Error:
    """Return the error of a name as it is if logs have all their columns, which its message suggests.

    A log's columns that the query does not name are not read.
    """
    if not isinstance(error, duckdb.BinderException):
        return error
    for name, source in pipeline.sources.items():
        if isinstance(source, LogSource) and source.group is None and name != pipeline.primary:
            connection.register(name, row_schema(source).empty_table())
    try:
        connection.sql(query)
    except duckdb.Error as whole:
        return whole
    return error


def _with_kept(
    connection: duckdb.DuckDBPyConnection, pipeline: Pipeline, primary: pa.Table, features: pa.Table
) -> pa.Table:
    """Add columns to keep that the query does not select, from the primary row of the same key."""
    more = [c for c in pipeline.destination.keep if c not in features.column_names and c in primary.column_names]
    if not more:
        return features
    plain = primary.select(more)
    if has_same_keys(features, primary, pipeline.key) and not any(pa.types.is_nested(f.type) for f in plain.schema):
        for name, column in zip(more, normalized(plain, exact=more).columns, strict=True):
            features = features.append_column(name, column)
        return features
    key, source = quoted(pipeline.key), quoted((pipeline.primary,))
    kept = ", ".join(f"p.{quoted((column,))}" for column in more)
    joined = f"select f.*, {kept} from penstock_features f join {source} p using ({key})"  # noqa: S608 # names, quoted
    with registered_features(connection, features):
        return normalized(fetch_relation(connection.sql(joined)), exact=more)
