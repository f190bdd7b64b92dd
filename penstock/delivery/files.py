"""Write the live rows of each interval to files, and name those of the live run in one pointer for each interval."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from penstock.delivery.file_formats import WRITERS, RowWriter
from penstock.delivery.folders import Folder
from penstock.delivery.place_errors import other_delivery, other_ledger, reach, refused, translated_place_errors
from penstock.delivery.target import IntervalTarget, Reply
from penstock.errors import PlaceRefused, PointerRefused
from penstock.interval import DataInterval, iso
from penstock.ledger.outbox import Delivery, Outbox
from penstock.spec.target_path import TargetPath
from penstock.wording import plural

POINTERS = "_live"
"""The folder of the pointers, below the folder of the target."""
GRACE = timedelta(days=1)
"""How long a file stays that no pointer names, for readers that have read the pointer before it moved."""
LONGEST_SECONDS = 300.0
"""How long one partition may take, and the upload of a file."""


@dataclass(frozen=True)
class WrittenFile:
    """A file that is in its place."""

    path: str
    """Below the folder of the target."""
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class FileTarget(IntervalTarget):
    """Files in a folder. A file is in its place before a pointer names it, and no file is written twice differently."""

    name: str
    kind: str
    path: TargetPath
    folder: Folder

    @property
    def longest_seconds(self) -> float:
        return LONGEST_SECONDS

    def open(self) -> Reply:
        return reach(self.name, self.folder)

    def replace(self, outbox: Outbox, delivery: Delivery, rows: Iterator[pa.Table]) -> Reply:
        try:
            with translated_place_errors(self.name):
                return self._replace(outbox, delivery, rows)
        except PlaceRefused as error:
            return refused(error)
        except PointerRefused as error:
            return Reply(False, str(error))

    def remove_unread(self, before: datetime | None) -> None:
        found = self.find_unread(before)
        with translated_place_errors(self.name):
            for key in found:
                self.folder.remove(key)

    def find_unread(self, before: datetime | None) -> list[str]:
        with translated_place_errors(self.name):
            return self._find_unread(before)

    def _find_unread(self, before: datetime | None) -> list[str]:
        found = list(self.folder.list())
        pointers = [each.key for each in found if re.fullmatch(rf"{POINTERS}/[^./][^/]*\.json", each.key)]
        named = {path for key in pointers for path in self._read_named(key, before)}
        mine = re.compile(
            rf"{self.path.pattern.pattern}/\.?{re.escape(self.name)}-[0-9]{{8}}\.{self.kind}(-[0-9a-f]{{32}})?"
        )
        old = (each for each in found if before is None or each.written_at < before)
        return [each.key for each in old if mine.fullmatch(each.key) and each.key not in named]

    def _read_named(self, pointer: str, before: datetime | None) -> list[str]:
        """Return the files that a pointer names, and those that it named at a time or later."""
        try:
            content = json.loads(self.folder.read(pointer) or b"")
            late = [] if before is None else _replaced_since(content, before)
            return [file["path"] for file in (*content["files"], *late)]
        except (ValueError, TypeError, KeyError):
            raise PlaceRefused(self.name, f"the pointer `{pointer}` cannot be read", passing=False) from None

    def close(self) -> None:
        """Nothing is open between two intervals."""

    def _replace(self, outbox: Outbox, delivery: Delivery, rows: Iterator[pa.Table]) -> Reply:
        key = f"{POINTERS}/{pointer_name(delivery.change.interval)}"
        if self._is_moved(self.folder.read(key), key, outbox, delivery):
            return Reply(True, "written before")
        files = [*self._write(delivery, rows)]
        now = datetime.now(UTC)

        def decide(present: bytes | None) -> bytes | None:
            moved = self._is_moved(present, key, outbox, delivery)
            return None if moved else write_pointer(outbox, delivery, files, present, now)

        self.folder.change(key, decide)
        return Reply(True, f"{plural(len(files), 'file')} written" if files else "no file is live")

    def _is_moved(self, present: bytes | None, key: str, outbox: Outbox, delivery: Delivery) -> bool:
        """Whether the pointer says already what this delivery says.

        Raises:
            PointerRefused: it is newer, or another target's, or has a delivery that the ledger does not know.
        """
        if present is None:
            return False
        try:
            found = json.loads(present)
            owner, sequence = (found["pipeline"], found["destination"]), int(found["sequence"])
            ledger, delivery_id = found["ledger"], found["delivery"]
        except (ValueError, TypeError, KeyError):
            raise PointerRefused(self.name, key, "it is no pointer") from None
        if ledger != outbox.ledger:
            raise PointerRefused(self.name, key, other_ledger(str(ledger)))
        if owner[0] != outbox.pipeline and owner[1] != outbox.destination:  # one of them may have got another name
            raise PointerRefused(self.name, key, f"it belongs to the pipeline `{owner[0]}`")
        if sequence > delivery.sequence:
            reason = f"it has the delivery {sequence}, which is newer than {delivery.sequence}"
            raise PointerRefused(self.name, key, reason)
        if sequence == delivery.sequence and delivery_id != delivery.delivery_id:
            raise PointerRefused(self.name, key, other_delivery(sequence))
        return sequence == delivery.sequence

    def _write(self, delivery: Delivery, rows: Iterator[pa.Table]) -> Iterator[WrittenFile]:
        """Write the rows as one file. Without rows there is none."""
        first = next((table for table in rows if table.num_rows), None)
        if first is None or delivery.change.run_id is None:
            return
        below = self.path.folder(delivery.change.interval, delivery.change.run_id)
        key = f"{below}/{self.name}-{delivery.sequence:08d}.{self.kind}"
        with self.folder.writing(key) as path:
            writer: RowWriter = WRITERS[self.kind](path, first.schema)
            try:
                writer.write(first)
                number = first.num_rows
                for table in rows:
                    writer.write(table)
                    number += table.num_rows
            finally:
                writer.close()
            written = WrittenFile(key, number, path.stat().st_size, _digest(path))
        yield written


def pointer_name(interval: DataInterval | None) -> str:
    """Return the name of an interval's pointer: `20260101T000000Z-20260102T000000Z.json`."""
    if interval is None:
        return "all.json"
    return "-".join(f"{moment:%Y%m%dT%H%M%SZ}" for moment in (interval.start, interval.end)) + ".json"


def write_pointer(
    outbox: Outbox, delivery: Delivery, files: list[WrittenFile], present: bytes | None, now: datetime
) -> bytes:
    """Write what readers need: which run is live, and its files. And which files are not live since when.

    Args:
        present: The pointer that this one replaces.
    """
    before = {"files": [], "replaced": []} if present is None else json.loads(present)
    replaced = [{"path": file["path"], "at": iso(now)} for file in before["files"]]
    interval = delivery.change.interval
    content: dict[str, Any] = {
        "pipeline": outbox.pipeline,
        "destination": outbox.destination,
        "ledger": outbox.ledger,
        "interval": None if interval is None else {"start": iso(interval.start), "end": iso(interval.end)},
        "run": delivery.change.run_id,
        "sequence": delivery.sequence,
        "delivery": delivery.delivery_id,
        "rows": sum(file.rows for file in files),
        "files": [vars(file) for file in files],
        "replaced": [*_replaced_since(before, now - GRACE), *replaced],
    }
    return (json.dumps(content, indent=2) + "\n").encode()


def _replaced_since(pointer: Any, time: datetime) -> list[dict[str, str]]:
    return [file for file in pointer["replaced"] if datetime.fromisoformat(file["at"]) >= time]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
