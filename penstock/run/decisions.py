"""Evaluate a spec's expressions on rows: which rows a step scores (`when:`), and the columns of `decide:`.

They run in the closed DuckDB of the features, over one partition's rows in their order.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow as pa

from penstock.database.bulk import prepare_fetch
from penstock.database.closed_duckdb import TableConnection, may_quote_values
from penstock.database.decimals import to_float
from penstock.database.normalize import normalized
from penstock.errors import ExpressionError
from penstock.privacy.masking import HIDDEN
from penstock.run.features import closed_tables, time_limit
from penstock.spec.expression import ROWS
from penstock.spec.pipeline import Pipeline
from penstock.spec.steps import ScoreStep

_FLOAT_DIGITS = 15
"""A float64 holds every decimal of so many digits."""


def choose_rows(pipeline: Pipeline, step: ScoreStep, rows: pa.Table, statement_seconds: int) -> "pa.ChunkedArray[Any]":
    """Return for each row whether the step scores it: the condition is true, not NULL.

    Raises:
        ExpressionError: the condition cannot be evaluated, or is not boolean.
    """
    return _choose(pipeline, f"`when` of step `{step.name}`", str(step.when), rows, statement_seconds)


def choose_explained(
    pipeline: Pipeline, condition: str, rows: pa.Table, statement_seconds: int
) -> "pa.ChunkedArray[Any]":
    """Return for each row whether `reasons.when` chooses it: the condition is true, not NULL.

    Raises:
        ExpressionError: the condition cannot be evaluated, or is not boolean.
    """
    return _choose(pipeline, "`when` of `reasons`", condition, rows, statement_seconds)


def choose_delivered(
    pipeline: Pipeline, target: str, condition: str, rows: pa.Table, statement_seconds: int
) -> "pa.ChunkedArray[Any]":
    """Return for each row whether a target of `deliver` gets it: the condition is true, not NULL.

    Raises:
        ExpressionError: the condition cannot be evaluated, or is not boolean.
    """
    return _choose(pipeline, f"`where` of `{target}` in `deliver`", condition, rows, statement_seconds)


def _choose(
    pipeline: Pipeline, where: str, condition: str, rows: pa.Table, statement_seconds: int
) -> "pa.ChunkedArray[Any]":
    def prepare(raw: duckdb.DuckDBPyConnection) -> Callable[[], pa.Table]:
        query = f"select (\n{condition}\n) as chosen from {ROWS}"  # noqa: S608 # the spec's expression
        chosen = raw.sql(query)
        if str(chosen.types[0]) != "BOOLEAN":
            raise ExpressionError(pipeline.name, where, f"is {chosen.types[0]}, not a condition that is true or false")
        return connection.plan_once(raw.sql(f"select coalesce(chosen, false) from ({query})"), 2)  # noqa: S608

    with _evaluating(pipeline, where, rows, statement_seconds) as connection:
        mask: pa.ChunkedArray[Any] = connection.keep(("when", condition), prepare)().column(0)
        return mask


def decide_columns(pipeline: Pipeline, rows: pa.Table, statement_seconds: int) -> pa.Table:
    """Return the columns of `decide:`. Each may use the rows' columns and the decisions before it.

    Raises:
        ExpressionError: one of them cannot be evaluated.
    """

    def prepare(raw: duckdb.DuckDBPyConnection) -> Callable[[], pa.Table]:
        query = ROWS
        for name, expression in pipeline.decide.items():
            query = f"(select *, (\n{expression}\n) as {_quoted(name)} from {query}) {ROWS}"  # noqa: S608 # as above
            with _named_errors(pipeline, f"`{name}` in `decide`", statement_seconds):
                raw.sql(f"from {query}")
        names = ", ".join(map(_quoted, pipeline.decide))
        decided = raw.sql(f"select {names} from {query}")  # noqa: S608 # as above
        return prepare_fetch(decided, lambda relation: connection.plan_once(relation, len(pipeline.decide) + 1))

    with _evaluating(pipeline, "`decide`", rows, statement_seconds) as connection:
        fetch = connection.keep(("decide", *pipeline.decide.items()), prepare)
        return _few_digits_as_floats(normalized(fetch()))


def _few_digits_as_floats(table: pa.Table) -> pa.Table:
    """Return decimals that a float64 holds as float64: DuckDB reads `0.5` in an expression as a decimal."""
    for position, field in enumerate(table.schema):
        if pa.types.is_decimal(field.type) and field.type.precision <= _FLOAT_DIGITS:
            table = table.set_column(position, field.name, to_float(table.column(position)))
    return table


@contextmanager
def _evaluating(pipeline: Pipeline, where: str, rows: pa.Table, seconds: int) -> Iterator[TableConnection]:
    """Give a connection with the rows. The block may take so many seconds."""
    with (
        _named_errors(pipeline, where, seconds),
        closed_tables({ROWS: rows}) as connection,
        time_limit(connection, seconds),
    ):
        yield connection


@contextmanager
def _named_errors(pipeline: Pipeline, where: str, seconds: int) -> Iterator[None]:
    """Turn DuckDB's errors into an ExpressionError that names the expression."""
    try:
        yield
    except duckdb.InterruptException as error:
        raise ExpressionError(pipeline.name, where, f"took longer than {seconds} s") from error
    except duckdb.Error as error:
        if pipeline.private_columns and may_quote_values(error):
            raise ExpressionError(pipeline.name, where, f"fails: {type(error).__name__} {HIDDEN}") from None
        reason = " ".join(str(error).split("LINE ")[0].split())
        raise ExpressionError(pipeline.name, where, f"fails: {reason}") from error


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
