"""The spool: recorded requests on this machine that are not in the warehouse yet. See docs/adr/0050.

It is a SQLite file that all processes of a project on a machine share. A request is moved by storing it in the
warehouse and then removing it here, so a kill between the two stores it again, which changes nothing. The answers of
requests with an `Idempotency-Key` stay, so that a process that cannot read the warehouse gives them again.
"""

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from penstock.database.connections import Database, open_local_file
from penstock.database.types import UtcDateTime
from penstock.ledger.served_rows import ERASED
from penstock.ledger.served_writes import Answer, NewRequest, close_dead_served_runs, store_requests
from penstock.spec.pipeline import Pipeline

logger = logging.getLogger(__name__)

FILE = "served.db"
_AT_ONCE = 500
"""Requests that are taken in by one transaction."""

_spooled = sa.Table(
    "spooled",
    sa.MetaData(),
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("pipeline", sa.Text, nullable=False),
    sa.Column("recorded_at", UtcDateTime, nullable=False),
    sa.Column("request", sa.Text),  # JSON; NULL: it is in the warehouse, and its answer is kept
    sa.Column("keys", sa.Text, nullable=False),  # JSON: the keys of its rows
    sa.Column("idempotency_key", sa.Text),
    sa.Column("answer", sa.Text),  # JSON: hash of the request, and the answer
    sa.UniqueConstraint("pipeline", "idempotency_key"),
)


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
        return len(self._waiting(pipeline, sa.select(_spooled.c.request_id), None))

    def find_answers(self, pipeline: str, asked: Sequence[Answer]) -> dict[str, Answer]:
        """Return the answers that were given to requests with these keys, by key."""
        if not asked or not self._exists:
            return {}
        with self.database.reading() as connection:
            found = ((each.key, _find_answer(connection, pipeline, each.key)) for each in asked)
            return {key: answer for key, answer in found if answer is not None}

    def take_in(self, warehouse: Database, pipeline: Pipeline, most: int) -> int:
        """Move requests of a pipeline into its warehouse, in one transaction. Return how many.

        Args:
            most: Most requests.

        Raises:
            DatabaseUnavailable: the warehouse does not answer, or has no ledger. What was not moved stays.
        """
        texts = self._waiting(pipeline.name, sa.select(_spooled.c.request), most)
        requests = [NewRequest.read(text) for text in texts]
        if requests:
            store_requests(warehouse, pipeline, requests)
            self._remove(requests)
        return len(requests)

    def erase(
        self, pipeline: str, keys: Collection[str], requests: Collection[str] = (), *, dry_run: bool = False
    ) -> int:
        """Remove the rows of keys, and the answers to requests that had one of them. Return how many requests.

        Args:
            keys: the texts that a key may have.
            requests: the IDs of requests that are in the warehouse, with erased rows. They are removed whole.
        """
        gone, rows = set(requests), self._rows(pipeline)
        mine = [row for row in rows if row["request_id"] in gone or set(json.loads(row["keys"])) & set(keys)]
        if dry_run or not mine:
            return len(mine)
        with self.database.writing() as connection:
            for row in mine:
                which = _spooled.c.request_id == row["request_id"]
                waits = row["request"] is not None and row["request_id"] not in gone
                left = _without(NewRequest.read(row["request"]), keys) if waits else None
                if left and left.rows:
                    connection.execute(sa.update(_spooled).where(which).values(**_as_row(left)))
                else:
                    connection.execute(sa.delete(_spooled).where(which))
        return len(mine)

    def prune(self, pipeline: str, before: datetime, *, dry_run: bool = False) -> int:
        """Remove answers of requests that were recorded before a time. Return how many. A dry run only counts."""
        if not self._exists:
            return 0
        old = (_spooled.c.pipeline == pipeline, _spooled.c.recorded_at < before, _spooled.c.request.is_(None))
        if dry_run:
            counted = sa.select(sa.func.count()).select_from(_spooled).where(*old)
            with self.database.reading() as connection:
                return int(connection.execute(counted).scalar_one())
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

    def _rows(self, pipeline: str) -> Sequence[Mapping[str, Any]]:
        if not self._exists:
            return []
        with self.database.reading() as connection:
            query = sa.select(_spooled).where(_spooled.c.pipeline == pipeline)
            return [dict(row) for row in connection.execute(query).mappings()]

    def _waiting(self, pipeline: str, query: sa.Select[Any], most: int | None) -> list[str]:
        if not self._exists:
            return []
        with self.database.reading() as connection:
            mine = query.where(_spooled.c.pipeline == pipeline, _spooled.c.request.is_not(None))
            return list(connection.execute(mine.order_by(_spooled.c.recorded_at).limit(most)).scalars())

    def _remove(self, requests: Sequence[NewRequest]) -> None:
        """Remove requests that are in the warehouse. Of those with an `Idempotency-Key` the answer stays."""
        with self.database.writing() as connection:
            for request in requests:
                which = _spooled.c.request_id == request.request_id
                if request.answer is None:
                    connection.execute(sa.delete(_spooled).where(which))
                else:
                    connection.execute(sa.update(_spooled).where(which).values(request=None))


def open_spool(home: Path) -> Spool:
    """Return the spool of a project's state folder."""
    return Spool(open_local_file(home / FILE))


def settle_served_runs(warehouse: Database, home: Path, pipeline: Pipeline) -> int:
    """Take the spool of this machine in, and end the runs of dead processes. Return how many requests were taken in.

    Answers for retries that are older than `serve.retention` are removed from the spool.
    """
    spool = open_spool(home)
    if pipeline.serve is None and spool.database.missing_file is not None:
        return 0
    moved = 0
    while taken := spool.take_in(warehouse, pipeline, _AT_ONCE):
        moved += taken
    close_dead_served_runs(warehouse, pipeline.name)
    if pipeline.serve is not None:
        spool.prune(pipeline.name, datetime.now(UTC) - pipeline.serve.retention)
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


def _without(request: NewRequest, keys: Collection[str]) -> NewRequest:
    """Return the request without the rows of keys, without the rows of other sources, and without its answer."""
    left = tuple({**row, "other_rows": ERASED} for row in request.rows if row["key"] not in keys)
    return replace(request, rows=left, answer=None)
