"""What a spec's expressions make of scored rows: which rows a step takes (`when:`), and the columns of `decide:`.

They are evaluated in the closed DuckDB of the features, over one partition's rows in their order.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow as pa

from penstock.database.normalize import normalized
from penstock.errors import ExpressionError
from penstock.privacy.masking import HIDDEN
from penstock.run.features import closed_duckdb, timed
from penstock.settings import load_settings
from penstock.spec.expression import ROWS
from penstock.spec.pipeline import Pipeline
from penstock.spec.steps import ScoreStep


def choose_rows(pipeline: Pipeline, step: ScoreStep, rows: pa.Table) -> "pa.ChunkedArray[Any]":
    """Return for each row whether the step takes it; where the condition is NULL it does not.

    Raises:
        ExpressionError: the condition cannot be evaluated, or is none.
    """
    where = f"`when` of step `{step.name}`"
    with _evaluating(pipeline, where, rows) as frame:
        chosen = frame.project(f"(\n{step.when}\n) as chosen")
        if str(chosen.types[0]) != "BOOLEAN":
            raise ExpressionError(pipeline.name, where, f"is {chosen.types[0]}, no condition that is true or false")
        mask: pa.ChunkedArray[Any] = chosen.project("coalesce(chosen, false)").to_arrow_table().column(0)
        return mask


def decide_columns(pipeline: Pipeline, rows: pa.Table) -> pa.Table:
    """Return the columns of `decide:`, each made of the rows' columns and those decided before it.

    Raises:
        ExpressionError: one of them cannot be evaluated.
    """
    with _evaluating(pipeline, "`decide`", rows) as frame:
        decided = frame
        for name, expression in pipeline.decide.items():
            with _told(pipeline, f"`{name}` in `decide`"):
                decided = decided.project(f"*, (\n{expression}\n) as {_quoted(name)}")
        return normalized(decided.project(", ".join(map(_quoted, pipeline.decide))).to_arrow_table())


@contextmanager
def _evaluating(pipeline: Pipeline, where: str, rows: pa.Table) -> Iterator[duckdb.DuckDBPyRelation]:
    with _told(pipeline, where), closed_duckdb({ROWS: rows}) as connection, timed(connection):
        yield connection.table(ROWS)


@contextmanager
def _told(pipeline: Pipeline, where: str) -> Iterator[None]:
    try:
        yield
    except duckdb.InterruptException as error:
        raise ExpressionError(
            pipeline.name, where, f"took longer than {load_settings().statement_seconds} s"
        ) from error
    except duckdb.Error as error:
        if pipeline.private_columns and isinstance(error, duckdb.DataError):  # it tells the value
            raise ExpressionError(pipeline.name, where, f"fails: {type(error).__name__} {HIDDEN}") from None
        reason = " ".join(str(error).split("LINE ")[0].split())
        raise ExpressionError(pipeline.name, where, f"fails: {reason}") from error


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
