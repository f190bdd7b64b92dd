"""Build features outside a run: of given rows, and of past rows for training."""

from collections.abc import Mapping
from datetime import datetime, timedelta

import pyarrow as pa

from penstock.database.connections import Connector
from penstock.database.decimals import to_float
from penstock.errors import FeaturesError, SettingsError
from penstock.interval import DataInterval, as_utc
from penstock.run.extract import land_logs
from penstock.run_types import interval_label
from penstock.sources import open_source
from penstock.spec.pipeline import Pipeline

ROWS_AT_HAND = "rows at hand"
STATEMENT_SECONDS = 1800
"""The default of PENSTOCK_STATEMENT_SECONDS."""


def apply_features(
    pipeline: Pipeline, rows: Mapping[str, pa.Table], *, statement_seconds: int = STATEMENT_SECONDS
) -> pa.Table:
    """Run the pipeline's features query over given tables.

    Use it to test a features query on a few rows, or to build the features of rows from elsewhere. Without
    a query, the features are the primary source's rows.

    Args:
        pipeline: DuckDB runs its `features:`, without access to files or the network.
        rows: One table for each source, by the source's name.
        statement_seconds: How long the query may take.

    Returns:
        One row for each key: the key, the features and the kept columns. Decimals other than the key are float64,
        as the model takes them.

    Raises:
        FeaturesError: the query fails or does not select the key.
        Halted: a key has two rows, or is not a key of the primary source.
        SettingsError: a source has no table.

    Example:
        >>> apply_features(pipeline, {"payments": pa.table({"payment_id": [1], "amount": [9.5]})})
    """
    from penstock.run.features import build_features

    missing = [name for name in pipeline.sources if name not in rows]
    if missing:
        raise SettingsError(
            f"no rows were given for source `{missing[0]}` of `{pipeline.name}`",
            "Give one Arrow table for each source.",
        )
    others = {name: rows[name] for name in pipeline.sources if name != pipeline.primary}
    return _as_floats(
        pipeline, build_features(pipeline, ROWS_AT_HAND, rows[pipeline.primary], others, statement_seconds)
    )


def read_past_features(
    pipeline: Pipeline,
    connect: Connector,
    start: datetime | None,
    end: datetime | None,
    step: timedelta | None,
    statement_seconds: int,
) -> pa.Table:
    """Build the features of a range's primary rows, one span at a time, or of all rows of a snapshot."""
    spans = _spans(pipeline, start, end, step)
    land_logs(pipeline, connect)
    tables = [_read_span(pipeline, connect, span, statement_seconds) for span in spans]
    try:
        whole = pa.concat_tables(tables, promote_options="permissive")  # a day of whole amounts reads as integers
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        reason = f"returns columns of different types for different times: {error}. Cast them in `features:`."
        raise FeaturesError(pipeline.name, reason) from error
    return _as_floats(pipeline, whole)


def _as_floats(pipeline: Pipeline, features: pa.Table) -> pa.Table:
    """Return the decimals as float64, but for the key."""
    for position, field in enumerate(features.schema):
        if pa.types.is_decimal(field.type) and field.name not in pipeline.key:
            features = features.set_column(position, field.name, to_float(features.column(position)))
    return features


def _spans(
    pipeline: Pipeline, start: datetime | None, end: datetime | None, step: timedelta | None
) -> list[DataInterval] | list[None]:
    if pipeline.interval is None:
        if start or end:
            raise SettingsError(
                f"`{pipeline.name}` is a snapshot pipeline and has no intervals", "Leave start and end out."
            )
        return [None]
    zone = pipeline.timezone
    first, last = (as_utc(moment, zone) if moment else None for moment in (start, end))
    if first is None or last is None or first >= last:
        raise SettingsError(f"there is no range from {start} to {end}", "Give a start, and an end after it.")
    if step is None:
        return _check_whole(pipeline, pipeline.interval.grid.cut(first, last))
    if step <= timedelta(0):
        raise SettingsError(f"there is no step of {step}", "Give a step above zero, or leave it out for the grain.")
    count = -(-(last - first) // step)
    spans = [DataInterval(first + i * step, min(first + (i + 1) * step, last), zone) for i in range(count)]
    return _check_whole(pipeline, spans)


def _check_whole(pipeline: Pipeline, spans: list[DataInterval]) -> list[DataInterval]:
    """Refuse spans other than whole intervals if features look at the rows of one. They may end before `start`."""
    assert pipeline.interval is not None
    first, last, grid = spans[0].start, spans[-1].end, pipeline.interval.grid
    whole = all(grid.align_down(edge) == edge for edge in (first, last)) and spans == grid.cut(first, last)
    if pipeline.partition_by is not None and not whole:
        raise SettingsError(
            f"`{pipeline.name}` has `partition_by`, so its features look at the rows of whole intervals, and "
            f"{first} to {last} is cut into others",
            "Begin and end with intervals of the pipeline, and leave the step out.",
        )
    return spans


def _read_span(pipeline: Pipeline, connect: Connector, span: DataInterval | None, statement_seconds: int) -> pa.Table:
    from penstock.run.features import build_features

    rows = {name: open_source(pipeline, name, connect).read(span) for name in pipeline.sources}
    primary = rows.pop(pipeline.primary)
    return build_features(pipeline, interval_label(span), primary, rows, statement_seconds)
