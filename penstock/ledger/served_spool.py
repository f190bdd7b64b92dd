"""The spool: recorded requests on this machine that are not in the warehouse yet. See docs/adr/0050.

It is a SQLite file that all processes of a project on a machine share. A request is moved by storing it in the
warehouse and then removing it here, so a kill between the two stores it again, which changes nothing. The answers of
requests with an `Idempotency-Key` stay, so that a process that cannot read the warehouse gives them again.
"""

import json
import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from penstock.database.connections import Database, open_local_file
from penstock.database.types import UtcDateTime
from penstock.errors import QueryFailed
from penstock.ledger.served_rows import ERASED
from penstock.ledger.served_writes import Answer, NewRequest, close_dead_served_runs, store_requests
from penstock.spec.pipeline import Pipeline

logger = logging.getLogger(__name__)

FILE = "served.db"
_AT_ONCE = 500
"""Most requests that are taken in by one transaction."""
_PAGE_CHARACTERS = 8_000_000
"""Requests that are taken in by one transaction have no more characters than this, unless it is a single one."""

_spooled = sa.Table(
    "spooled",
    sa.MetaData(),
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("pipeline", sa.Text, nullable=False),
    sa.Column("recorded_at", UtcDateTime, nullable=False),
    sa.Column("request", sa.Text),  # JSON; NULL: it is in the warehouse, and its answer is kept
    sa.Column("problem", sa.Text),  # why the warehouse has refused it; NULL: it waits
    sa.Column("keys", sa.Text, nullable=False),  # JSON: the keys of its rows
    sa.Column("idempotency_key", sa.Text),
    sa.Column("answer", sa.Text),  # JSON: hash of the request, and the answer
    sa.UniqueConstraint("pipeline", "idempotency_key"),
)
_WAITS = (_spooled.c.request.is_not(None), _spooled.c.problem.is_(None))
sa.Index("spooled_waiting", _spooled.c.pipeline, _spooled.c.recorded_at, sqlite_where=sa.and_(*_WAITS))


@dataclass(frozen=True)
class TakenIn:
    """What one call of `Spool.take_in` did."""

    read: int
    """Requests that it was tried for. 0: none waits."""
    moved: int
    """Those of them that are in the warehouse now, or an earlier one with the same `Idempotency-Key`."""


@dataclass(frozen=True)
class Spool:
    """The spool of a project. Its file is made with the first request."""

    database: Database

    def append(self, pipeline: str, requests: Sequence[NewRequest]) -> list[Answer | None]:
        """Keep requests until they are taken in, on the disk when this returns.

        Returns:
            For each request: the answer that its `Idempotency-Key` got before, with which nothing is kept. Else None.

        Raises:
            DatabaseUnavailable: the file cannot be written, for example because the disk is full.
        """
        results: list[Answer | None] = []
        with self.database.writing() as connection:
            _spooled.create(connection, checkfirst=True)
            for request in requests:
                earlier = request.answer and _find_answer(connection, pipeline, request.answer.key)
                known = sa.select(_spooled.c.request_id).where(_spooled.c.request_id == request.request_id)
                if connection.execute(known).first() is not None:
                    earlier = None
                elif earlier is None:
                    connection.execute(_spooled.insert().values(pipeline=pipeline, **_as_row(request)))
                results.append(earlier)
        return results

    def count(self, pipeline: str) -> int:
        """Return how many requests wait to be taken in."""
        return self._count(_spooled.c.pipeline == pipeline, *_WAITS)

    def count_refused(self, pipeline: str) -> int:
        """Return how many requests the warehouse has refused. They stay until they are tried again."""
        return self._count(_spooled.c.pipeline == pipeline, _spooled.c.problem.is_not(None))

    def find_answers(self, pipeline: str, asked: Sequence[Answer]) -> dict[str, Answer]:
        """Return the answers that were given to requests with these keys, by key."""
        if not asked or not self._exists:
            return {}
        with self.database.reading() as connection:
            found = ((each.key, _find_answer(connection, pipeline, each.key)) for each in asked)
            return {key: answer for key, answer in found if answer is not None}

    def take_in(self, warehouse: Database, pipeline: Pipeline, most: int, until: datetime | None = None) -> TakenIn:
        """Move requests of a pipeline into its warehouse in one transaction, the oldest first.

        If the warehouse refuses them, they are moved one by one. Those that it refuses alone stay, with the reason, and
        are logged. So does one that cannot be read.

        Args:
            most: Most requests.
            until: Only those that were recorded up to this time. None: all.

        Raises:
            DatabaseUnavailable: the warehouse does not answer, or has no ledger. What was not moved stays.
        """
        page = self._read_page(pipeline.name, most, until)
        requests: list[NewRequest] = []
        for row in page:
            try:
                requests.append(NewRequest.read(row["request"]))
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                self._refuse(pipeline.name, row["request_id"], f"it cannot be read: {type(error).__name__}")
        if not requests:
            return TakenIn(len(page), 0)
        try:
            return TakenIn(len(page), self._move(warehouse, pipeline, requests))
        except QueryFailed:
            return TakenIn(len(page), sum(self._move_alone(warehouse, pipeline, each) for each in requests))

    def try_again(self, pipeline: str) -> None:
        """Let the requests that the warehouse has refused wait again."""
        if self._exists:
            refused = (_spooled.c.pipeline == pipeline, _spooled.c.problem.is_not(None))
            with self.database.writing() as connection:
                connection.execute(sa.update(_spooled).where(*refused).values(problem=None))

    def erase(
        self, pipeline: str, keys: Collection[str], requests: Collection[str] = (), *, dry_run: bool = False
    ) -> int:
        """Remove the rows of keys, and the answers to requests that had one of them. Return how many requests.

        Args:
            keys: the texts that a key may have.
            requests: the IDs of requests that are in the warehouse, with erased rows. They are removed whole.
        """
        gone = set(requests)
        mine = self._find(pipeline, keys, gone)
        if dry_run or not mine:
            return len(mine)
        with self.database.writing() as connection:
            for request_id in mine:
                which = _spooled.c.request_id == request_id
                text = None
                if request_id not in gone:
                    text = connection.execute(sa.select(_spooled.c.request).where(which)).scalar()
                left = text and _without(text, keys)
                if left:
                    connection.execute(sa.update(_spooled).where(which).values(**_as_row(left)))
                else:
                    connection.execute(sa.delete(_spooled).where(which))
        return len(mine)

    def prune(self, pipeline: str, before: datetime, *, dry_run: bool = False) -> int:
        """Remove answers, and refused requests, that were recorded before a time. Return how many.

        A dry run only counts.
        """
        if not self._exists:
            return 0
        kept = sa.or_(_spooled.c.request.is_(None), _spooled.c.problem.is_not(None))
        old = (_spooled.c.pipeline == pipeline, _spooled.c.recorded_at < before, kept)
        if dry_run:
            return self._count(*old)
        with self.database.writing() as connection:
            return int(connection.execute(sa.delete(_spooled).where(*old)).rowcount)

    def rename(self, old: str, new: str) -> None:
        """Give the requests of a pipeline to its new name."""
        if self._exists:
            with self.database.writing() as connection:
                twin = _spooled.alias("twin")
                same = (twin.c.pipeline == new, twin.c.idempotency_key == _spooled.c.idempotency_key)
                connection.execute(
                    sa.update(_spooled)
                    .where(_spooled.c.pipeline == old, sa.exists().where(*same))
                    .values(idempotency_key=None)
                )
                connection.execute(sa.update(_spooled).where(_spooled.c.pipeline == old).values(pipeline=new))

    @property
    def _exists(self) -> bool:
        with self.database.reading() as connection:
            return sa.inspect(connection).has_table(_spooled.name)

    def _count(self, *which: sa.ColumnElement[bool]) -> int:
        if not self._exists:
            return 0
        with self.database.reading() as connection:
            query = sa.select(sa.func.count()).select_from(_spooled).where(*which)
            return int(connection.execute(query).scalar_one())

    def _find(self, pipeline: str, keys: Collection[str], requests: Collection[str]) -> list[str]:
        """Return the IDs of the requests that have rows of keys, and of those of `requests` that are here."""
        if not self._exists:
            return []
        with self.database.reading() as connection:
            query = sa.select(_spooled.c.request_id, _spooled.c["keys"]).where(_spooled.c.pipeline == pipeline)
            found = connection.execute(query).all()
        return [each for each, own in found if each in requests or set(json.loads(own)) & set(keys)]

    def _read_page(self, pipeline: str, most: int, until: datetime | None) -> list[sa.RowMapping]:
        """Return requests that wait, the oldest first, as many as are moved at once."""
        if not self._exists:
            return []
        query = sa.select(_spooled.c.request_id, _spooled.c.request).where(_spooled.c.pipeline == pipeline, *_WAITS)
        if until is not None:
            query = query.where(_spooled.c.recorded_at <= until)
        page: list[sa.RowMapping] = []
        size = 0
        with self.database.reading() as connection:
            for row in connection.execute(query.order_by(_spooled.c.recorded_at).limit(most)).mappings():
                size += len(row["request"])
                if page and size > _PAGE_CHARACTERS:
                    break
                page.append(row)
        return page

    def _move(self, warehouse: Database, pipeline: Pipeline, requests: Sequence[NewRequest]) -> int:
        """Store requests in the warehouse, then remove them here. Return how many.

        Another process may have moved some since they were read, and `penstock forget` may have erased rows of them.
        """
        wanted: set[str] = set()

        def find_wanted() -> Collection[str]:
            wanted.clear()
            wanted.update(self._find_unchanged(requests))
            return wanted

        earlier = store_requests(warehouse, pipeline, requests, find_wanted=find_wanted)
        paired = zip(requests, earlier, strict=True)
        self._remove([(request, answer) for request, answer in paired if request.request_id in wanted])
        return len(wanted)

    def _move_alone(self, warehouse: Database, pipeline: Pipeline, request: NewRequest) -> int:
        try:
            return self._move(warehouse, pipeline, [request])
        except QueryFailed as error:
            self._refuse(pipeline.name, request.request_id, str(error))
            return 0

    def _find_unchanged(self, requests: Sequence[NewRequest]) -> Iterator[str]:
        """Yield the IDs of the requests that still wait with the same rows."""
        read = {request.request_id: json.dumps(request.keys) for request in requests}
        query = sa.select(_spooled.c.request_id, _spooled.c["keys"]).where(
            _spooled.c.request_id.in_(list(read)), *_WAITS
        )
        with self.database.reading() as connection:
            for request_id, keys in connection.execute(query):
                if read[request_id] == keys:
                    yield request_id

    def _refuse(self, pipeline: str, request_id: str, problem: str) -> None:
        logger.error(
            "%s: request %s stays in the spool, because it cannot be stored: %s", pipeline, request_id, problem
        )
        with self.database.writing() as connection:
            refused = sa.update(_spooled).where(_spooled.c.request_id == request_id)
            connection.execute(refused.values(problem=problem))

    def _remove(self, requests: Sequence[tuple[NewRequest, Answer | None]]) -> None:
        """Remove requests that are in the warehouse, with the answer that their `Idempotency-Key` had there before.

        The answer of the others stays. A retry must get the one that the warehouse has.
        """
        with self.database.writing() as connection:
            for request, earlier in requests:
                which = _spooled.c.request_id == request.request_id
                if request.answer is None or earlier is not None:
                    connection.execute(sa.delete(_spooled).where(which))
                else:
                    connection.execute(sa.update(_spooled).where(which).values(request=None))


def open_spool(home: Path) -> Spool:
    """Return the spool of a project's state folder."""
    return Spool(open_local_file(home / FILE))


def settle_served_runs(warehouse: Database, home: Path, pipeline: Pipeline) -> int:
    """Take the spool of this machine in, and end the runs of dead processes. Return how many requests were taken in.

    What a server records meanwhile stays in the spool.
    Answers for retries that are older than `serve.retention` are removed from the spool.
    """
    spool = open_spool(home)
    if pipeline.serve is None and spool.database.missing_file is not None:
        return 0
    moved, now = 0, datetime.now(UTC)
    while (taken := spool.take_in(warehouse, pipeline, _AT_ONCE, now)).read:
        moved += taken.moved
    close_dead_served_runs(warehouse, pipeline.name)
    if pipeline.serve is not None:
        spool.prune(pipeline.name, now - pipeline.serve.retention)
    return moved


def settle_before_run(warehouse: Database, home: Path, pipeline: Pipeline) -> None:
    """Do what `settle_served_runs` does. It fails no run: what cannot be taken in stays in the spool."""
    try:
        settle_served_runs(warehouse, home, pipeline)
    except Exception as error:  # noqa: BLE001 # whatever it is, the scores of the run matter more
        logger.warning("%s: recorded rows stay in the spool: %s", pipeline.name, error)


def _as_row(request: NewRequest) -> dict[str, Any]:
    answer = request.answer
    return {
        "request_id": request.request_id,
        "recorded_at": request.recorded_at,
        "request": request.write(),
        "keys": json.dumps(request.keys),
        "idempotency_key": answer and answer.key,
        "answer": answer and json.dumps([answer.request, answer.body]),
    }


def _find_answer(connection: sa.Connection, pipeline: str, key: str) -> Answer | None:
    mine = (_spooled.c.pipeline == pipeline, _spooled.c.idempotency_key == key)
    text = connection.execute(sa.select(_spooled.c.answer).where(*mine)).scalar()
    return None if text is None else Answer(key, *json.loads(text))


def _without(text: str, keys: Collection[str]) -> NewRequest | None:
    """Return a request without the rows of keys, without the rows of other sources, and without its answer.

    None: no row is left, or the request cannot be read.
    """
    try:
        request = NewRequest.read(text)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    left = tuple({**row, "other_rows": ERASED} for row in request.rows if row["key"] not in keys)
    return replace(request, rows=left, answer=None) if left else None
