"""Rows to learn from, by a pipeline's own sources and features query: a model never meets features made another way."""

from datetime import datetime, timedelta

import pyarrow as pa

from penstock.examples.place import Place
from penstock.interval import DataInterval, split
from penstock.run.extract import land_logs
from penstock.run.features import build_features
from penstock.sources import open_source
from penstock.spec.pipeline import Pipeline


def read_features(place: Place, pipeline: Pipeline, start: datetime, end: datetime, step: timedelta) -> pa.Table:
    """Build the features of every primary row in `[start, end)`, a step at a time.

    Args:
        step: rows of so long a span at once; any that the memory holds, for the query judges each row by itself.
    """
    land_logs(pipeline, place.connector)
    return pa.concat_tables([_read_span(place, pipeline, span) for span in split(start, end, step)])


def _read_span(place: Place, pipeline: Pipeline, span: DataInterval) -> pa.Table:
    rows = {name: open_source(pipeline, name, place.connector).read(span) for name in pipeline.sources}
    primary = rows.pop(pipeline.primary)
    return build_features(pipeline, span.label, primary, rows, place.settings.statement_seconds)


def join_labels(features: pa.Table, labels: pa.Table, key: tuple[str, ...]) -> pa.Table:
    """Keep the rows whose outcome is known, in the order of their keys: same rows, same model."""
    joined = features.join(labels, list(key), join_type="inner")
    return joined.sort_by([(column, "ascending") for column in key])
