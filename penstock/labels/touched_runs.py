"""Find the runs that scored the keys of new labels, so that the other ones need not be measured again."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.labels.stored import keys_added
from penstock.ledger.destinations import split_name
from penstock.ledger.reader import RunRecord
from penstock.run.history_table import history_name, reflect_history

MOST_KEYS = 20_000
"""With more keys of new labels all runs are measured again: looking for the keys would take as long."""
_LARGEST = 2**63 - 1
_PARAMETERS = 10_000
"""Values of one query. SQLite takes 32,766."""


def find_touched(
    database: Database, pipeline: str, key: Sequence[str], judged: Sequence[RunRecord], after: int, upto: int
) -> frozenset[str]:
    """Return the IDs of the runs that some additions of labels may touch: at least those with rows of their keys.

    The history table has no index by key, so it is read once for each 10,000 keys, by the database alone.

    Args:
        judged: the runs to choose from.
        after, upto: numbers of the additions, without the first and with the last.
    """
    everything = frozenset(run.run_id for run in judged)
    keys = keys_added(database, pipeline, after, upto, MOST_KEYS) if judged else []
    if keys is None:
        return everything
    parsed = [json.loads(text) for text in keys]
    found = set[str]()
    for (place, table), some in groupby(sorted(judged, key=_place_of), key=_place_of):
        of_table = frozenset(run.run_id for run in some)
        touched = _find_in_table(database, place, table, key, parsed)
        found |= of_table if touched is None else of_table & touched
    return frozenset(found)


def _place_of(run: RunRecord) -> tuple[str, str]:
    return run.destination or "", run.destination_table


def _find_in_table(
    database: Database, place: str, table_name: str, key: Sequence[str], keys: Sequence[Mapping[str, str]]
) -> frozenset[str] | None:
    """Return the runs of a history table that have rows of the keys. None if its columns cannot be compared."""
    schema, _ = split_name(place)
    with database.reading() as connection:
        table = reflect_history(connection, history_name(table_name, schema or None).name, schema or None)
        readers = [_reader_of(table.c[name]) if name in table.c else None for name in key]
        if None in readers:
            return None
        wanted = list(_read_keys(key, readers, keys))
        columns, at_once = [table.c[name] for name in key], max(1, _PARAMETERS // len(key))
        found = set[str]()
        for begin in range(0, len(wanted), at_once):
            some = wanted[begin : begin + at_once]
            same = columns[0].in_([row[0] for row in some]) if len(key) == 1 else sa.tuple_(*columns).in_(some)
            rows = connection.execute(sa.select(table.c.run_id).where(same).distinct()).scalars()
            found |= {str(run_id).replace("-", "") for run_id in rows}  # Postgres writes a UUID with dashes
    return frozenset(found)


def _reader_of(column: sa.Column[Any]) -> Callable[[str], Any] | None:
    """Return what reads a label's key as a value of the column. None if equal keys may differ in the database."""
    if isinstance(column.type, sa.Integer):
        return _read_integer
    return str if isinstance(column.type, sa.String) else None


def _read_integer(text: str) -> int:
    number = int(text)
    if abs(number) > _LARGEST:
        raise ValueError(text)
    return number


def _read_keys(
    key: Sequence[str], readers: Sequence[Callable[[str], Any] | None], keys: Sequence[Mapping[str, str]]
) -> Iterator[tuple[Any, ...]]:
    """Yield the values of each key, without those that no row of the table can have."""
    for each in keys:
        with suppress(KeyError, ValueError):
            yield tuple(reader(each[name]) for name, reader in zip(key, readers, strict=True) if reader)
