"""The features query: DuckDB SQL over one partition's rows of all sources, one row per key.

DuckDB runs closed: without files, network or settings. The query sees one partition of the primary source at a time,
so a primary row's features must not depend on other primary rows. It may aggregate the other sources.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow as pa

from penstock.database.bulk import fetch_relation
from penstock.database.normalize import normalized
from penstock.database.types import compute
from penstock.errors import FeaturesError, Halted
from penstock.privacy.masking import HIDDEN
from penstock.run.text_macros import create_text_macros
from penstock.run_types import ScoringRun, interval_label
from penstock.spec.parts import twin_names
from penstock.spec.pipeline import Pipeline

SHOWN = 5
"""The most keys that a message names."""
_QUERIES = (duckdb.StatementType.SELECT, duckdb.StatementType.MULTI)  # `pivot` is several statements inside


def build_features(
    pipeline: Pipeline,
    interval_label: str,
    primary: pa.Table,
    others: dict[str, pa.Table],
    statement_seconds: int,
) -> pa.Table:
    """Return the features of a partition's primary rows: key, features, kept columns.

    Args:
        statement_seconds: how long the query may take.

    Raises:
        FeaturesError: the query fails, is not a single select, takes too long, or does not select the key.
        Halted: a key has two rows, or is not in the primary source.
    """
    if pipeline.features is None:
        return normalized(primary)  # nested values become JSON
    with closed_duckdb({pipeline.primary: primary, **others}) as connection:
        features = _run_query(connection, pipeline, pipeline.features, statement_seconds)
        lacking = [c for c in pipeline.key if c not in features.column_names]
        if lacking:
            names = ", ".join(f"`{c}`" for c in lacking)
            raise FeaturesError(pipeline.name, f"does not select the key {names}. Add it: each score needs its key.")
        connection.register("penstock_features", features)
        problems = _key_problems(connection, pipeline)
        if problems:
            raise Halted(pipeline.name, interval_label, problems)
        return _with_kept(connection, pipeline, primary, features)


@contextmanager
def closed_duckdb(tables: Mapping[str, pa.Table]) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a DuckDB with these tables and without access to anything outside of it."""
    connection = duckdb.connect(":memory:", config={"threads": 1})
    try:
        for statement in (
            "SET TimeZone='UTC'",
            "SET enable_external_access=false",
            "SET autoinstall_known_extensions=false",
            "SET autoload_known_extensions=false",
            "SET python_enable_replacements=false",
        ):
            connection.execute(statement)
        create_text_macros(connection)
        for name, table in tables.items():
            connection.register(name, table)
        connection.execute("SET lock_configuration=true")
        yield connection
    finally:
        connection.close()


@contextmanager
def time_limit(connection: duckdb.DuckDBPyConnection, seconds: int) -> Iterator[None]:
    """Interrupt what runs on the connection after so many seconds."""
    clock = threading.Timer(seconds, connection.interrupt)
    clock.daemon = True
    clock.start()
    try:
        yield
    finally:
        clock.cancel()


def _run_query(connection: duckdb.DuckDBPyConnection, pipeline: Pipeline, query: str, seconds: int) -> pa.Table:
    """Run the one select of the spec, for at most so many seconds."""
    try:
        kinds = [statement.type for statement in connection.extract_statements(query)]
        if len(kinds) != 1 or kinds[0] not in _QUERIES:
            raise FeaturesError(pipeline.name, "must be a single `select`. Fix `features:` in the spec.")
        with time_limit(connection, seconds):
            exact = (*pipeline.key, *pipeline.destination.keep)
            features = normalized(fetch_relation(connection.sql(query)), exact=exact)
    except duckdb.InterruptException as error:
        reason = f"took longer than {seconds} s. Fix its joins, or set PENSTOCK_STATEMENT_SECONDS to more."
        raise FeaturesError(pipeline.name, reason) from error
    except duckdb.Error as error:
        reason = " ".join(str(error).split("LINE ")[0].split())
        if pipeline.private_columns and isinstance(error, duckdb.DataError):  # its message quotes the value
            hidden = f"fails: {type(error).__name__} {HIDDEN}. Fix `features:` in the spec."
            raise FeaturesError(pipeline.name, hidden) from None
        raise FeaturesError(pipeline.name, f"fails: {reason}. Fix `features:` in the spec.") from error
    if twins := twin_names(features.column_names):
        names = ", ".join(f"`{name}`" for name in twins)
        reason = f"has more than one column of a name: {names} (upper and lower case are the same)."
        raise FeaturesError(pipeline.name, f"{reason} Select each once, or give it another name with `as`.")
    return features


def _key_problems(connection: duckdb.DuckDBPyConnection, pipeline: Pipeline) -> tuple[str, ...]:
    key, primary = _quoted(pipeline.key), _quoted((pipeline.primary,))
    counted = f"select {key}, count(*) from penstock_features group by {key} having count(*) > 1"  # noqa: S608 # names, quoted
    twice = connection.execute(f"{counted} order by {key} limit {SHOWN}").fetchall()
    outside = f"select {key} from penstock_features anti join {primary} using ({key})"  # noqa: S608 # names, quoted
    strange = connection.execute(f"{outside} limit {SHOWN}").fetchall()
    problems = []
    if twice:
        shown = ", ".join(f"{show_key(pipeline, row[:-1])} ({row[-1]} rows)" for row in twice)
        problems.append(f"features give more than one row for a key: {shown}; group or deduplicate the joined side")
    if strange:
        shown = ", ".join(show_key(pipeline, row) for row in strange)
        problems.append(
            f"features give keys that `{pipeline.primary}` does not have: {shown}; join from the primary source"
        )
    return tuple(problems)


def _with_kept(
    connection: duckdb.DuckDBPyConnection, pipeline: Pipeline, primary: pa.Table, features: pa.Table
) -> pa.Table:
    """Add columns to keep that the query does not select, from the primary row of the same key."""
    more = [c for c in pipeline.destination.keep if c not in features.column_names and c in primary.column_names]
    if not more:
        return features
    key, source = _quoted(pipeline.key), _quoted((pipeline.primary,))
    kept = ", ".join(f"p.{_quoted((column,))}" for column in more)
    joined = f"select f.*, {kept} from penstock_features f join {source} p using ({key})"  # noqa: S608 # names, quoted
    return normalized(fetch_relation(connection.sql(joined)), exact=more)


def halt_on_duplicates(run: ScoringRun, keys: pa.Table) -> None:
    """Refuse keys of the primary source that have more than one row.

    Raises:
        Halted: there are some.
    """
    if twice := duplicate_keys(run.pipeline, keys):
        raise Halted(run.pipeline.name, interval_label(run.interval), (describe_duplicates(run.pipeline, twice),))


def describe_duplicates(pipeline: Pipeline, twice: Sequence[str]) -> str:
    """Say that keys of the primary source have more than one row."""
    key = ", ".join(f"`{c}`" for c in pipeline.key)
    return f"the key {key} of source `{pipeline.primary}` is not unique: {', '.join(twice)}"


def duplicate_keys(pipeline: Pipeline, table: pa.Table) -> tuple[str, ...]:
    """Return the first keys that have more than one row, with their counts. Empty if the key is unique."""
    key = pipeline.key
    if not table.num_rows:
        return ()
    if len(key) == 1 and compute.count_distinct(table[key[0]], mode="only_valid").as_py() == table.num_rows:
        return ()
    counted = table.select(list(key)).group_by(list(key)).aggregate([([], "count_all")])
    twice = counted.filter(compute.greater(counted["count_all"], pa.scalar(1))).slice(0, SHOWN).to_pylist()
    return tuple(show_duplicate(pipeline, [row[c] for c in key], row["count_all"]) for row in twice)


def show_duplicate(pipeline: Pipeline, key: Sequence[Any], rows: int) -> str:
    """Write a key with the number of its rows."""
    return f"{show_key(pipeline, key)} ({rows} rows)"


def _quoted(names: Sequence[str]) -> str:
    return ", ".join('"' + name.replace('"', '""') + '"' for name in names)


def show_key(pipeline: Pipeline, values: Sequence[Any]) -> str:
    """Write a key as errors show it."""
    named = zip(pipeline.key, values, strict=True)
    return " / ".join(HIDDEN if c.casefold() in pipeline.private_columns else str(value) for c, value in named)
