"""The ledgers that a project has had. A ledger that is gone is refused, and not made anew in silence.

A ledger is known by the moment it was made. The home folder keeps a record of each, and so does the Prefect server for
deployed pipelines (`tasks/ledger_record.py`).
"""

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.errors import LedgerLost
from penstock.ledger.migrations import make_ledger, migrate, read_version
from penstock.ledger.tables import schema

RECORDS = "ledgers.json"
"""The file in the home folder."""


@dataclass(frozen=True)
class KnownLedger:
    """A ledger as it is known: its connection, its place, and the moment it was made."""

    connection: str
    place: str
    """Where the database is, without user and password."""
    made_at: str
    """ISO 8601 in UTC, with microseconds."""

    def to_json(self) -> dict[str, str]:
        return asdict(self)


_opened: dict[str, KnownLedger] = {}
"""What this process has opened, by place. A file that goes away in between is not made anew."""


def open_ledger(database: Database, home: Path, recorded: Iterable[KnownLedger] = ()) -> KnownLedger:
    """Make the ledger where the project has never had one, bring it up to this version, and record it in the home.

    Args:
        recorded: What others than the home folder know of it.

    Raises:
        LedgerLost: the project has had a ledger, and this is none or another one.
    """
    known = refuse_lost(database, home, recorded) or _make(database)
    migrate(database)
    remember_ledger(home, known)
    _opened[known.place] = known
    return known


def refuse_lost(database: Database, home: Path, recorded: Iterable[KnownLedger] = ()) -> KnownLedger | None:
    """Return the ledger of a warehouse. None where there is none and the project has never had one.

    The home folder knows of the same place only: a test or a trial may send a connection to a database of its own.

    Raises:
        LedgerLost: the project has had a ledger, and this is none or another one.
    """
    place = (database.name, database.place)
    opened = [_opened[database.place]] if database.place in _opened else []
    at_home = [each for each in read_records(home) if (each.connection, each.place) == place]
    found = identify_ledger(database)  # after the records: another process may be making the ledger right now
    for known in (*recorded, *opened, *at_home):
        if found is None or found.made_at != known.made_at:
            raise _lost(database, found, known)
    return found


def identify_ledger(database: Database) -> KnownLedger | None:
    """Return the ledger that a warehouse has. None: it has none."""
    with database.reading_together(), database.reading() as connection:
        if not read_version(database):
            return None
        made: datetime = connection.execute(
            sa.select(schema.c.applied_at).order_by(schema.c.version).limit(1)
        ).scalar_one()
    return KnownLedger(database.name, database.place, made.isoformat(timespec="microseconds"))


def remember_ledger(home: Path, known: KnownLedger) -> None:
    """Record a ledger in the home folder, in place of what was known of its connection and place."""
    before = read_records(home)
    if known in before:
        return
    others = (each for each in before if (each.connection, each.place) != (known.connection, known.place))
    _write_records(home, [*others, known])


def accept_ledger(database: Database, home: Path) -> KnownLedger:
    """Take the warehouse as it is: make a ledger where there is none, and record it in place of the one before."""
    known = identify_ledger(database) or _make(database)
    remember_ledger(home, known)
    _opened[known.place] = known
    return known


def read_records(home: Path) -> list[KnownLedger]:
    """Return the ledgers that the home folder knows."""
    file = home / RECORDS
    if not file.exists():
        return []
    return [KnownLedger(**each) for each in json.loads(file.read_text(encoding="utf-8"))]


def _make(database: Database) -> KnownLedger:
    make_ledger(database)
    known = identify_ledger(database)
    assert known is not None  # it is there now
    return known


def _write_records(home: Path, records: Iterable[KnownLedger]) -> None:
    text = json.dumps([each.to_json() for each in records], indent=1)
    with suppress(OSError):  # a home that cannot be written knows no ledger; the Prefect server still may
        home.mkdir(parents=True, exist_ok=True)
        new = home / f"{RECORDS}.{os.getpid()}"
        new.write_text(text, encoding="utf-8")
        new.replace(home / RECORDS)  # in one step, so that another process never reads half of it


def _lost(database: Database, found: KnownLedger | None, known: KnownLedger) -> LedgerLost:
    if found is not None:
        what = f"{database.place} has another ledger, made {_to_the_second(found.made_at)}"
    elif database.missing_file is not None:
        what = f"there is no file {database.missing_file}"
    else:
        what = f"{database.place} has no ledger"
    before = f"the ledger in {known.place}, made {_to_the_second(known.made_at)}"
    return LedgerLost(database.name, what, before)


def _to_the_second(moment: str) -> str:
    return f"{datetime.fromisoformat(moment):%Y-%m-%d %H:%M:%S} UTC"


def parse_known(value: Any) -> KnownLedger | None:
    """Return the ledger of a record that was read from elsewhere. None: it is no such record."""
    fields = set(KnownLedger.__dataclass_fields__)
    return KnownLedger(**value) if isinstance(value, dict) and set(value) == fields else None
