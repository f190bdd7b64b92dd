"""Store recorded requests: their rows, the counts of their runs, and the answers for retries. See docs/adr/0050."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Self

import sqlalchemy as sa

from penstock.database.bulk import append_rows
from penstock.database.connections import Database
from penstock.errors import DatabaseUnavailable, KeyCollision
from penstock.interval import DataInterval
from penstock.ledger.destinations import SERVED, qualified_name
from penstock.ledger.migrations import has_ledger
from penstock.ledger.pins import read_pins, write_pins
from penstock.ledger.served_rows import RECORDED, RECORDING, served_table
from penstock.ledger.tables import runs, served_answers, served_runs
from penstock.run_types import Pins, deciding_model, interval_key
from penstock.spec.pipeline import Pipeline

_TRIES = 5
"""How often requests are stored again because another process stored one with the same key at the same time."""
_TAKEN_IN = timedelta(0)
"""The lease of a run that no process adds to."""
Place = tuple[str, str | None]
"""Table and schema of a destination."""
FindWanted = Callable[[], Collection[str]]
_COUNTS = {"scored": "rows_scored", "refused": "rows_quarantined", "excluded": "rows_excluded"}


@dataclass(frozen=True)
class NewRun:
    """A run that requests are recorded in. It is stored with its first request."""

    run_id: str
    worker: str
    """The process that adds to it: the token of its lease."""
    owner: str
    """Where that process is."""
    interval: DataInterval | None
    pins: Pins
    is_chain: bool
    """Whether the pipeline has several steps."""
    spec_fingerprint: str
    scoring: str
    layout: str
    """What `Layout.write` gives."""
    table: str
    """The destination's table when it was recorded. Its rows are in `<table>__served`."""
    schema: str | None

    def write(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        interval = self.interval and [
            self.interval.start.isoformat(),
            self.interval.end.isoformat(),
            self.interval.zone,
        ]
        return {**asdict(self), "interval": interval, "pins": write_pins(self.pins)}

    @classmethod
    def read(cls, known: Mapping[str, Any]) -> Self:
        """Read what `write` gave."""
        interval = None
        if known["interval"]:
            start, end, zone = known["interval"]
            interval = DataInterval(datetime.fromisoformat(start), datetime.fromisoformat(end), zone)
        return cls(**{**known, "interval": interval, "pins": read_pins(known["pins"])})


@dataclass(frozen=True)
class Answer:
    """The answer to a request with an `Idempotency-Key`."""

    key: str
    """A hash of the client's name and its key."""
    request: str
    """A hash of the body and of what else decides the answer."""
    body: str
    """JSON: status, headers and body."""


@dataclass(frozen=True)
class NewRequest:
    """One request to record."""

    run: NewRun
    request_id: str
    recorded_at: datetime
    rows: tuple[Mapping[str, Any], ...]
    """Its rows as the columns of `<table>__served` have them, without the IDs and the time."""
    answer: Answer | None = None
    """None: the request has no `Idempotency-Key`."""

    @property
    def keys(self) -> list[str]:
        """The texts of the keys of its rows."""
        return sorted({row["key"] for row in self.rows if row["key"] is not None})

    def write(self) -> str:
        """Return it as JSON."""
        own = {"request_id": self.request_id, "recorded_at": self.recorded_at.isoformat(), "rows": list(self.rows)}
        return json.dumps({**own, "run": self.run.write(), "answer": self.answer and asdict(self.answer)})

    @classmethod
    def read(cls, text: str) -> Self:
        """Read what `write` wrote."""
        known = json.loads(text)
        return cls(
            run=NewRun.read(known["run"]),
            request_id=known["request_id"],
            recorded_at=datetime.fromisoformat(known["recorded_at"]),
            rows=tuple(known["rows"]),
            answer=known["answer"] and Answer(**known["answer"]),
        )


def store_requests(
    database: Database,
    pipeline: Pipeline,
    requests: Sequence[NewRequest],
    lease: timedelta = _TAKEN_IN,
    find_wanted: FindWanted | None = None,
) -> list[Answer | None]:
    """Store requests in one transaction. Those that are stored already stay as they are, so that it may be repeated.

    Args:
        lease: how long the process that calls this keeps the runs. Zero: their process is another one, or has ended.
        find_wanted: gives the IDs of the requests that are still to be stored. It is called in the transaction, once
            no other process can store them. None: all are.

    Returns:
        For each request: the answer that its `Idempotency-Key` got before, with which nothing is stored. Else None.

    Raises:
        DatabaseUnavailable: the warehouse does not answer, or has no ledger.
    """
    if not has_ledger(database):
        remedy = f"Run `penstock run {pipeline.name}`, or correct the connection."
        raise DatabaseUnavailable(database.name, "it has no ledger", remedy)
    for tried in range(1, _TRIES + 1):
        try:
            tables = {place: _ensure_table(database, *place) for place in {_place_of(each) for each in requests}}
            with database.writing() as connection:
                _touch_runs(database, connection, pipeline, requests, lease)
                return _store(connection, pipeline.name, tables, requests, find_wanted)
        except KeyCollision:
            if tried == _TRIES:
                raise
    raise AssertionError


def renew_served_runs(database: Database, pipeline: str, worker: str, lease: timedelta) -> None:
    """Keep the runs of a process that it still records in."""
    with database.writing() as connection:
        until = database.now(connection) + lease
        mine = (runs.c.pipeline == pipeline, runs.c.lease_token == worker, runs.c.state == RECORDING)
        connection.execute(sa.update(runs).where(*mine).values(lease_until=until))


def close_served_runs(database: Database, pipeline: str, worker: str, keep: Sequence[str] = ()) -> None:
    """End the runs of a process.

    Args:
        keep: IDs of runs that it still records in.
    """
    _close(database, runs.c.pipeline == pipeline, runs.c.lease_token == worker, runs.c.run_id.not_in(list(keep)))


def close_dead_served_runs(database: Database, pipeline: str) -> None:
    """End the runs whose process has not renewed their lease."""
    if has_ledger(database):
        with database.reading() as connection:
            now = database.now(connection)
        _close(database, runs.c.pipeline == pipeline, runs.c.lease_until < now)


def find_recording(connection: sa.Connection, pipelines: Sequence[str], now: datetime) -> str | None:
    """Return a run that a living process records in."""
    open_runs = (runs.c.pipeline.in_(list(pipelines)), runs.c.variant == SERVED, runs.c.state == RECORDING)
    query = sa.select(runs.c.run_id).where(*open_runs, runs.c.lease_until > now)
    return connection.execute(query.limit(1)).scalar()


def _close(database: Database, *which: sa.ColumnElement[bool]) -> None:
    open_runs = (runs.c.variant == SERVED, runs.c.state == RECORDING, *which)
    with database.reading() as connection:
        found = connection.execute(sa.select(runs.c.run_id).where(*open_runs)).scalars().all()
    if not found:
        return
    with database.writing() as connection:
        ended = {"state": RECORDED, "finished_at": database.now(connection)}
        connection.execute(sa.update(runs).where(*open_runs).values(**ended))


def _place_of(request: NewRequest) -> Place:
    return request.run.table, request.run.schema


def _ensure_table(database: Database, name: str, schema: str | None) -> sa.Table:
    """Return the table of a destination's recorded rows. Make it first where it is missing."""
    table = served_table(name, schema)
    with database.reading() as connection:
        if sa.inspect(connection).has_table(table.name, schema=table.schema):
            return table
    with database.writing() as connection:
        table.create(connection, checkfirst=True)
    return table


def _store(
    connection: sa.Connection,
    pipeline: str,
    tables: Mapping[Place, sa.Table],
    requests: Sequence[NewRequest],
    find_wanted: FindWanted | None,
) -> list[Answer | None]:
    """Insert what is not stored yet. The caller has locked the runs, so no other process adds to them."""
    stored: set[tuple[str, str]] = set()
    for place, table in tables.items():
        stored |= _find_stored(connection, table, [each for each in requests if _place_of(each) == place])
    given = _find_answers(connection, pipeline, requests)
    wanted = None if find_wanted is None else find_wanted()  # after `stored`: what was stored and erased is not wanted
    results: list[Answer | None] = []
    new: list[NewRequest] = []
    for request in requests:
        earlier = given.get(request.answer.key) if request.answer else None
        is_new = (request.run.run_id, request.request_id) not in stored
        if is_new and earlier is None and (wanted is None or request.request_id in wanted):
            new.append(request)
            if request.answer:
                given[request.answer.key] = request.answer
        results.append(earlier if is_new else None)
    _insert(connection, pipeline, tables, new)
    return results


def _touch_runs(
    database: Database,
    connection: sa.Connection,
    pipeline: Pipeline,
    requests: Sequence[NewRequest],
    lease: timedelta,
) -> None:
    now = database.now(connection)
    for run in {request.run.run_id: request.run for request in requests}.values():
        _touch_run(connection, pipeline, run, now, lease)


def _touch_run(connection: sa.Connection, pipeline: Pipeline, run: NewRun, now: datetime, lease: timedelta) -> None:
    """Make the run where it is missing. Whoever adds to it writes its row first, so that they take turns."""
    until = now + lease
    if lease:
        kept: dict[str, Any] = {"state": RECORDING, "lease_until": until, "finished_at": None}
    else:
        kept = {"lease_token": run.worker}
    known = connection.execute(sa.update(runs).where(runs.c.run_id == run.run_id).values(**kept)).rowcount
    if known:
        return
    model = deciding_model(run.pins)
    connection.execute(
        runs.insert().values(
            run_id=run.run_id,
            pipeline=pipeline.name,
            interval_key=interval_key(run.interval),
            interval_start=run.interval.start if run.interval else None,
            interval_end=run.interval.end if run.interval else None,
            timezone=pipeline.timezone,
            variant=SERVED,
            reason="requests",
            state=RECORDING if lease else RECORDED,
            model_name=model.name,
            model_version=model.version,
            model_digest=model.digest,
            step_models=write_pins(run.pins if run.is_chain else {}),
            spec_fingerprint=run.spec_fingerprint,
            destination_table=run.table,
            destination=qualified_name(connection, run.schema, run.table),
            lease_token=run.worker,
            lease_owner=run.owner,
            lease_until=until,
            started_at=now,
            finished_at=None if lease else now,
            **dict.fromkeys(("rows_extracted", *_COUNTS.values()), 0),
        )
    )
    described = {"run_id": run.run_id, "scoring": run.scoring, "layout": run.layout}
    connection.execute(served_runs.insert().values(**described))


def _find_stored(connection: sa.Connection, table: sa.Table, requests: Sequence[NewRequest]) -> set[tuple[str, str]]:
    """Return run and ID of the requests that have rows already."""
    ids = [request.request_id for request in requests]
    of = (table.c.run_id, table.c.request_id)
    runs_of = {request.run.run_id for request in requests}
    query = sa.select(*of).where(table.c.run_id.in_(runs_of), table.c.request_id.in_(ids)).distinct()
    return set(connection.execute(query).tuples())


def _find_answers(connection: sa.Connection, pipeline: str, requests: Sequence[NewRequest]) -> dict[str, Answer]:
    keys = [request.answer.key for request in requests if request.answer]
    if not keys:
        return {}
    known = served_answers.c
    query = sa.select(known.idempotency_key, known.request, known.answer)
    found = connection.execute(query.where(known.pipeline == pipeline, known.idempotency_key.in_(keys)))
    return {key: Answer(key, request, body) for key, request, body in found}


def _insert(
    connection: sa.Connection, pipeline: str, tables: Mapping[Place, sa.Table], requests: Sequence[NewRequest]
) -> None:
    rows: dict[Place, list[dict[str, Any]]] = {place: [] for place in tables}
    answers, counts = [], Counter[tuple[str, str]]()
    for request in requests:
        own = {"run_id": request.run.run_id, "request_id": request.request_id}
        placed = enumerate(request.rows)
        place = _place_of(request)
        all_columns = dict.fromkeys(tables[place].columns.keys())
        rows[place] += [
            {**all_columns, **own, "seq": seq, "recorded_at": request.recorded_at, **row} for seq, row in placed
        ]
        counts.update((request.run.run_id, _COUNTS[row["status"]]) for row in request.rows)
        if request.answer:
            said = {
                "idempotency_key": request.answer.key,
                "request": request.answer.request,
                "answer": request.answer.body,
            }
            answers.append({"pipeline": pipeline, **said, **own, "recorded_at": request.recorded_at})
    for place, table in tables.items():
        append_rows(connection, table, rows[place])
    if answers:
        connection.execute(served_answers.insert(), answers)
    for run_id in {run_id for run_id, _ in counts}:
        added = {column: counts[run_id, column] for column in _COUNTS.values()}
        sums = {column: runs.c[column] + number for column, number in added.items()}
        sums["rows_extracted"] = runs.c.rows_extracted + sum(added.values())
        connection.execute(sa.update(runs).where(runs.c.run_id == run_id).values(**sums))
