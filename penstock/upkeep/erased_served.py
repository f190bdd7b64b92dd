"""Erase recorded rows of requests: those of a key, or those where a column of a source has a value."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from penstock.labels.key_text import possible_keys
from penstock.labels.stored import chunks
from penstock.ledger.served_rows import ERASED, find_tables
from penstock.ledger.tables import served_answers
from penstock.privacy.masking import MaskingPolicy
from penstock.privacy.row_key import RowKey
from penstock.spec.pipeline import Pipeline

PAGE = 5_000


def erase_served(
    connection: sa.Connection, pipeline: Pipeline, row_key: RowKey, masking: MaskingPolicy, *, dry_run: bool
) -> tuple[Counter[str], set[str]]:
    """Remove the recorded rows of a key, the answers that had one, and the other sources' rows of these requests.

    Returns:
        The number of rows by table, and the IDs of the requests. A dry run only finds them.
    """
    counts, ids = Counter[str](), set[str]()
    for table in find_tables(connection, pipeline.name, pipeline.destination):
        for some in chunks(possible_keys(row_key, masking)):
            mine = table.c.key.in_(some)
            requests = connection.execute(sa.select(table.c.request_id).where(mine).distinct()).scalars().all()
            counts[table.name] += _count(connection, table, mine)
            counts.update(_blank_requests(connection, pipeline, table, requests, dry_run=dry_run))
            ids.update(requests)
            if not dry_run:
                connection.execute(sa.delete(table).where(mine))
    return counts, ids


def erase_served_where(
    connection: sa.Connection,
    pipeline: Pipeline,
    source: str,
    column: str,
    is_mine: Callable[[Any], bool],
    *,
    dry_run: bool,
) -> tuple[Counter[str], set[str]]:
    """Remove what was recorded of a source's rows where a column has a value, as `erase_served` does."""
    counts, ids = Counter[str](), set[str]()
    for table in find_tables(connection, pipeline.name, pipeline.destination):
        found = _find_rows(connection, table, None if source == pipeline.primary else source, column, is_mine)
        requests = {request for _, request, _ in found}
        counts.update(_blank_requests(connection, pipeline, table, sorted(requests), dry_run=dry_run))
        ids |= requests
        if source == pipeline.primary:
            counts[table.name] += len(found)
            for place in () if dry_run else found:
                same = (key == value for key, value in zip(table.primary_key.columns, place, strict=True))
                connection.execute(sa.delete(table).where(*same))
    return counts, ids


def _find_rows(
    connection: sa.Connection, table: sa.Table, source: str | None, column: str, is_mine: Callable[[Any], bool]
) -> list[tuple[str, str, int]]:
    """Return the places of the rows that have the value, or whose request brought a row of the source that has it."""
    stored = table.c.primary_row if source is None else table.c.other_rows
    query = sa.select(*table.primary_key.columns, stored).where(stored.is_not(None))
    found = []
    for *place, text in connection.execute(query.execution_options(yield_per=PAGE)):
        known = json.loads(text) or {}
        rows = [known] if source is None else known.get(source, ())
        if any(is_mine(row.get(column)) for row in rows):
            found.append((place[0], place[1], place[2]))
    return found


def _blank_requests(
    connection: sa.Connection, pipeline: Pipeline, table: sa.Table, requests: Sequence[str], *, dry_run: bool
) -> Counter[str]:
    """Remove the answers to requests, and their rows of other sources, which may be of the erased key.

    With `partition_by` the features of a row depend on other rows of its request, so all of these are marked as erased.
    """
    counts = Counter[str]()
    brought = table.c.other_rows.is_not(None) if pipeline.partition_by is None else sa.true()
    for some in chunks(requests):
        answers = served_answers.c.request_id.in_(some)
        counts[served_answers.name] += _count(connection, served_answers, answers)
        if not dry_run:
            connection.execute(sa.delete(served_answers).where(answers))
            mine = table.c.request_id.in_(some)
            connection.execute(sa.update(table).where(mine, brought).values(other_rows=ERASED))
    return counts


def _count(connection: sa.Connection, table: sa.Table, *which: sa.ColumnElement[bool]) -> int:
    return int(connection.execute(sa.select(sa.func.count()).select_from(table).where(*which)).scalar_one())
