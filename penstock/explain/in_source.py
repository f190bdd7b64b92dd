"""Why a key has neither a score nor a refusal: look for its row in the primary source."""

from dataclasses import replace
from datetime import datetime

from penstock.database.connections import Connector, Database
from penstock.ledger.reader import list_published
from penstock.privacy.row_key import RowKey
from penstock.sources.sql import sql_relation
from penstock.spec.pipeline import Pipeline
from penstock.spec.sources import SqlSource
from penstock.timezones import describe_moment
from penstock.upkeep.stored_rows import match_key

UNKNOWN = "No run has scored or refused this key: the source does not have it, or `features` leaves it out."


def describe_absence(pipeline: Pipeline, row_key: RowKey, connect: Connector, warehouse: Database) -> str:
    """Say why no run has the key. Only a table of a database can be asked for one row.

    Raises:
        SettingsError: a value of the key is not of its column's type.
    """
    source = pipeline.primary_source
    if not isinstance(source, SqlSource) or source.table is None:
        return UNKNOWN
    time = pipeline.interval.column if pipeline.interval else None
    relation = sql_relation(pipeline.primary, source, connect(source.connection), time, None)
    with relation.database.reading() as connection:
        mine = match_key(connection, relation.rows, row_key, own=False)
    rows = replace(relation, rows=relation.rows.select().where(*mine).subquery()).read(None)
    if not rows.num_rows:
        return f"Source `{pipeline.primary}` does not have this key, and no run has scored or refused it."
    if time is None:
        published = list_published(warehouse, pipeline.name)
        return _describe_left_out(bool(published))
    moment: datetime | None = rows[time][0].as_py()
    if moment is None:
        return f"Source `{pipeline.primary}` has this key without an event time, so it belongs to no interval."
    covering = [
        run
        for run in list_published(warehouse, pipeline.name)
        if run.interval_start is None or (run.interval_end and run.interval_start <= moment < run.interval_end)
    ]
    at = describe_moment(moment, pipeline.timezone)
    return f"Source `{pipeline.primary}` has this key at {at}. {_describe_left_out(bool(covering))}"


def _describe_left_out(scored: bool) -> str:
    if not scored:
        return "Its interval is not published."
    return "Its interval is published without it: `features` leaves it out, or the row came after the run."
