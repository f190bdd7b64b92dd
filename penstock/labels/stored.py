"""The labels in the ledger: append them, each once, and find the label of a key as it was known at a time."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from penstock.database.bulk import BulkTransaction, bulk_transaction
from penstock.database.connections import Database
from penstock.database.types import TIMESTAMP
from penstock.errors import KeyCollision
from penstock.ledger.tables import label_sources, labels

ATTEMPTS = 5
KEYS_AT_ONCE = 5_000
"""Keys of one query. SQLite takes 32,766 parameters."""


@dataclass(frozen=True, order=True)
class Label:
    """One label of one row, as the source had it."""

    key: str
    seen_at: datetime
    value: str
    """JSON: a number, the name of a class, or null where an earlier label was taken back."""


def append_labels(
    database: Database, pipeline: str, found: Sequence[Label], now: datetime, current: Mapping[str, str] | None = None
) -> int:
    """Store the labels that are not stored yet, in one transaction. Return how many there were.

    A stored label that the source has again, after it had another value of the same time, becomes the last one again.
    Another process may store the same labels between the look and the transaction. The count of additions shows it.

    Args:
        current: By other forms that the ledger may have of the keys: the form that they are stored in now.

    Raises:
        KeyCollision: other processes store labels of the pipeline all the time.
    """
    forms = current or {}
    keys = sorted({label.key for label in found} | forms.keys())
    for _ in range(ATTEMPTS):
        with database.reading() as connection:
            additions = connection.execute(_select_additions(pipeline)).scalar_one()
            known = _read_known(connection, pipeline, keys, forms)
        new, returned = sorted(set(found) - known.keys()), _find_returned(found, known)
        if not new and not returned:
            return 0
        with bulk_transaction(database) as transaction:
            _set_additions(transaction, pipeline, label_sources.c.additions)  # others wait until this transaction ends
            if transaction.execute(_select_additions(pipeline)) == [(additions,)]:
                if new:
                    transaction.append(labels, _as_rows(pipeline, new, now, additions + 1))
                for label in returned:
                    stored_as = [label.key, *(form for form, becomes in forms.items() if becomes == label.key)]
                    same = (
                        sa.or_(*(labels.c.key == form for form in stored_as)),
                        labels.c.seen_at == label.seen_at,
                        labels.c.value == label.value,
                    )
                    update = sa.update(labels).where(labels.c.pipeline == pipeline, *same)
                    transaction.execute(update.values(collected_at=now, addition=additions + 1))
                _set_additions(transaction, pipeline, label_sources.c.additions + 1)
                return len(new) + len(returned)
    raise KeyCollision(database.name, "other processes store labels of the pipeline all the time")


def _read_known(
    connection: sa.Connection, pipeline: str, keys: Sequence[str], forms: Mapping[str, str]
) -> dict[Label, datetime]:
    """Return the stored labels of some keys, each with when it was collected last."""
    known: dict[Label, datetime] = {}
    for some in chunks(keys):
        query = sa.select(labels.c.key, labels.c.seen_at, labels.c.value, labels.c.collected_at)
        mine = (labels.c.pipeline == pipeline, labels.c.key.in_(some))
        for key, seen_at, value, collected_at in connection.execute(query.where(*mine)):
            label = Label(forms.get(key, key), seen_at, value)
            known[label] = max(known.get(label, collected_at), collected_at)
    return known


def _find_returned(found: Sequence[Label], known: Mapping[Label, datetime]) -> list[Label]:
    """Return the stored labels that the source has again, after it had another value of the same key and time."""
    last: dict[tuple[str, datetime], tuple[datetime, Label]] = {}
    for label, collected_at in known.items():
        place = (label.key, label.seen_at)
        last[place] = max(last.get(place, (collected_at, label)), (collected_at, label))
    given = Counter((label.key, label.seen_at) for label in set(found))
    there = sorted(set(found) & known.keys())
    places = ((label, (label.key, label.seen_at)) for label in there)
    return [label for label, place in places if given[place] == 1 and last[place][1] != label]


def move_labels(database: Database, pipeline: str, current: Mapping[str, str]) -> int:
    """Give stored labels another form of their key, in one transaction. Return how many there were.

    A label that is stored under both forms stays once.

    Args:
        current: By form of a key: the one that its labels get.
    """
    with database.reading() as connection:
        found = list(_stored(connection, pipeline, sorted(current)))
    if not found:
        return 0
    with database.writing() as connection:
        mine = label_sources.c.pipeline == pipeline  # others wait until this transaction ends, and then look again
        connection.execute(sa.update(label_sources).where(mine).values(additions=label_sources.c.additions + 1))
        there = set(_stored(connection, pipeline, sorted({current[label.key] for label in found})))
        for label in found:
            where = [labels.c.pipeline == pipeline, *(labels.c[name] == value for name, value in vars(label).items())]
            if replace(label, key=current[label.key]) in there:
                connection.execute(sa.delete(labels).where(*where))
            else:
                connection.execute(sa.update(labels).where(*where).values(key=current[label.key]))
    return len(found)


def _select_additions(pipeline: str) -> sa.Select[tuple[int]]:
    return sa.select(label_sources.c.additions).where(label_sources.c.pipeline == pipeline)


def _set_additions(transaction: BulkTransaction, pipeline: str, to: sa.ColumnElement[int]) -> None:
    transaction.execute(sa.update(label_sources).where(label_sources.c.pipeline == pipeline).values(additions=to))


def find_labels(
    database: Database,
    pipeline: str,
    keys: Sequence[tuple[str, ...]],
    as_of: datetime | None = None,
    upto: int | None = None,
) -> Mapping[str, float | str]:
    """Return the label of each key that has one, by the first form of the key.

    The label is the newest by `seen_at`, and of several at one time the one that was collected last. Those that were
    taken back are left out.

    Args:
        keys: The forms that each key may have in the ledger (`key_text.write_key_forms`).
        as_of: Use what was seen until then, inclusive. None: everything.
        upto: Use what the transactions up to this number added. None: all of them.
    """
    newest: dict[str, tuple[datetime, datetime, str]] = {}
    first = {form: forms[0] for forms in keys for form in forms}
    columns = (labels.c.key, labels.c.seen_at, labels.c.collected_at, labels.c.value)
    seen = [] if as_of is None else [labels.c.seen_at <= as_of]
    seen += [] if upto is None else [labels.c.addition <= upto]
    with database.reading() as connection:
        for some in chunks(list(first)):
            query = sa.select(*columns).where(labels.c.pipeline == pipeline, labels.c.key.in_(some), *seen)
            for stored, *label in connection.execute(query):
                key = first[stored]
                newest[key] = max(newest.get(key, tuple(label)), tuple(label))
    values = {key: json.loads(value) for key, (*_, value) in newest.items()}
    return {key: value for key, value in values.items() if value is not None}


def labels_of(database: Database, pipeline: str, keys: Sequence[str]) -> tuple[Label, ...]:
    """Return all labels of some keys, the newest by `seen_at` first."""
    with database.reading() as connection:
        return tuple(sorted(_stored(connection, pipeline, keys), key=lambda label: label.seen_at, reverse=True))


def keys_added(database: Database, pipeline: str, after: int, upto: int, most: int) -> list[str] | None:
    """Return the keys whose labels some transactions added. None if there are more than `most`.

    Args:
        after, upto: numbers of the transactions, without the first and with the last.
    """
    mine = (labels.c.pipeline == pipeline, labels.c.addition > after, labels.c.addition <= upto)
    with database.reading() as connection:
        query = sa.select(labels.c.key).where(*mine).distinct().limit(most + 1)
        found = list(connection.execute(query).scalars())
    return found if len(found) <= most else None


def count_labels(database: Database, pipeline: str) -> int:
    """Count the stored labels of a pipeline, changed ones each time."""
    with database.reading() as connection:
        counted = sa.select(sa.func.count()).select_from(labels).where(labels.c.pipeline == pipeline)
        return int(connection.execute(counted).scalar_one())


def _stored(connection: sa.Connection, pipeline: str, keys: Sequence[str]) -> Iterator[Label]:
    for some in chunks(keys):
        query = sa.select(labels.c.key, labels.c.seen_at, labels.c.value)
        mine = (labels.c.pipeline == pipeline, labels.c.key.in_(some))
        yield from (Label(*row) for row in connection.execute(query.where(*mine)))


def _as_rows(pipeline: str, new: Sequence[Label], now: datetime, addition: int) -> pa.Table:
    texts: dict[str, Any] = {
        "pipeline": [pipeline] * len(new),
        "key": [label.key for label in new],
        "value": [label.value for label in new],
    }
    times = {"seen_at": [label.seen_at for label in new], "collected_at": [now] * len(new)}
    columns: dict[str, Any] = {name: pa.array(values, pa.string()) for name, values in texts.items()}
    columns |= {name: pa.array(values, TIMESTAMP) for name, values in times.items()}
    return pa.table(columns | {"addition": pa.array([addition] * len(new), pa.int64())})


def chunks(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield some keys at a time, as many as one query takes."""
    return (keys[begin : begin + KEYS_AT_ONCE] for begin in range(0, len(keys), KEYS_AT_ONCE))
