"""The boundaries of a run: the moments before and after every statement, bulk call, commit and prediction, in their
order; between them stands what failed.

They are found by listening to SQLAlchemy, ADBC, DuckDB and XGBoost, so that no code for faults stands in what ships.
"""

import os
import sys
import threading
from collections.abc import Callable
from functools import wraps
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.default import DefaultDialect

Reached = Callable[[str], None]

TARGET = "delivered"
"""The folder of targets that write files."""
between_beats = threading.Lock()
"""Held while the lease is renewed: who is stopped in the middle of that would hold SQLite's one lock for writing."""


def watch_boundaries(reached: Reached) -> None:
    """Tell every boundary that this process comes to, but those of the lease's thread, which come by time."""

    def tell(boundary: str) -> None:
        if not threading.current_thread().name.startswith("lease "):
            reached(boundary)

    _watch_sqlalchemy(tell)
    _watch_adbc(tell)
    _watch_duckdb(tell)
    _watch_xgboost(tell)
    _watch_aliases(tell)
    _watch_targets(tell)
    _watch_failures(tell)
    _watch_lease()


def _watch_sqlalchemy(tell: Reached) -> None:
    def before(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        tell(f"before {_short(statement)}")

    def after(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        tell(f"after {_short(statement)}")

    sa.event.listen(sa.Engine, "before_cursor_execute", before)
    sa.event.listen(sa.Engine, "after_cursor_execute", after)
    DefaultDialect.do_commit = _around(DefaultDialect.do_commit, tell, lambda *_: "COMMIT")  # type: ignore[method-assign]


def _watch_adbc(tell: Reached) -> None:
    from adbc_driver_manager.dbapi import Connection, Cursor

    Cursor.execute = _around(Cursor.execute, tell, lambda _, sql, *__: f"ADBC {_short(sql)}")
    Cursor.fetch_arrow_table = _around(Cursor.fetch_arrow_table, tell, lambda *_: "ADBC fetch")
    Cursor.adbc_ingest = _around(Cursor.adbc_ingest, tell, lambda _, table, *__: f"ADBC COPY {table}")
    Connection.commit = _around(Connection.commit, tell, lambda *_: "ADBC COMMIT")


def _watch_targets(tell: Reached) -> None:
    """Tell before each move, new folder and removal below a folder that is named as one of a target is."""

    def heard(event: str, details: tuple[Any, ...]) -> None:
        if event in ("os.rename", "os.mkdir", "os.remove") and f"{os.sep}{TARGET}{os.sep}" in str(details[0]):
            tell(f"before {event} {details[0]}")

    sys.addaudithook(heard)


def _watch_aliases(tell: Reached) -> None:
    from penstock.models import local_store

    local_store.replace_durably = _around(local_store.replace_durably, tell, lambda path, *_: f"WRITE {path.name}")


def _watch_duckdb(tell: Reached) -> None:
    from penstock.database import bulk

    bulk._duckdb_fetch = _around(bulk._duckdb_fetch, tell, lambda *_: "DuckDB fetch")


def _watch_xgboost(tell: Reached) -> None:
    from penstock.models.booster import ModelVersion

    ModelVersion.score = _around(ModelVersion.score, tell, lambda *_: "prediction")  # type: ignore[method-assign]


def _watch_failures(tell: Reached) -> None:
    from penstock.database import driver_errors

    translate = driver_errors._translate

    def told(database: Any, error: BaseException, *statement: str) -> Any:
        tell(f"failed {' '.join(str(error).split())}")
        return translate(database, error, *statement)

    driver_errors._translate = told


def _watch_lease() -> None:
    from penstock.ledger import lease

    renew = lease.renew

    def renew_alone(*arguments: Any) -> None:
        with between_beats:
            renew(*arguments)

    lease.renew = renew_alone


def _around(call: Any, tell: Reached, name: Callable[..., str]) -> Any:
    @wraps(call)
    def told(*arguments: Any, **named: Any) -> Any:
        what = name(*arguments)
        tell(f"before {what}")
        result = call(*arguments, **named)
        tell(f"after {what}")
        return result

    return told


def _short(statement: str) -> str:
    """Keep a statement's verb and the table that it speaks of."""
    words = statement.split()
    verb = words[0].upper()
    marks = {"INSERT": "INTO", "DELETE": "FROM", "SELECT": "FROM", "UPDATE": "UPDATE", "CREATE": "CREATE"}
    upper = [word.upper() for word in words]
    mark = marks.get(verb)
    if mark is None or mark not in upper[:-1]:
        return " ".join(words[:3])
    return f"{verb} {' '.join(words[upper.index(mark) + 1 :][: 2 if verb == 'CREATE' else 1])}".strip('"')
