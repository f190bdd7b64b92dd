"""Stage documents as Parquet: once a run, one row for each file. See docs/adr/0027.

A document that cannot be read is a refused row. Documents are read one by one and written in batches, so memory is
bounded by the largest document.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from penstock.errors import BrokenFile, SettingsError
from penstock.object_stores import ENVIRONMENT, StoreAccess, StoredObject, is_remote
from penstock.run_types import FileState
from penstock.sources.documents.media_types import HEAD_BYTES, find_media_type
from penstock.sources.documents.pdf_text import pdf_version
from penstock.sources.documents.reading import read_text
from penstock.sources.documents.times import DocumentTimes, modified_at
from penstock.sources.documents.unreadable import UnreadableDocument
from penstock.sources.file_paths import below_fixed_folder
from penstock.sources.text.decoding import show_stray_bytes
from penstock.sources.text.dialect import Dialect
from penstock.sources.text.staging import FACTS, REFUSED, ROWS, Staged, stage_once
from penstock.spec.sources import FilesSource

_VERSION = 1
"""Goes up when the same documents are staged in another way."""
_PIECE_BYTES = 1 << 20
_BATCH_ROWS, _BATCH_BYTES = 2_000, 16 << 20
_TIME = pa.timestamp("us", "UTC")
_Columns = list[tuple[str, pa.DataType]]
_FACTS_OF_FILE: _Columns = [("path", pa.string()), ("time", _TIME), ("size", pa.int64()), ("modified", _TIME)]
_CONTENT: dict[str, _Columns] = {
    "text": [("text", pa.string())],
    "blob": [("sha256", pa.string()), ("media_type", pa.string())],
}
_PLACE: _Columns = [("_file", pa.string()), ("_row_of_file", pa.int64()), ("_position", pa.int64())]
_REFUSED_COLUMNS: _Columns = [
    ("file", pa.string()),
    ("line", pa.int64()),
    ("text", pa.string()),
    ("reason", pa.string()),
    *((name, pa.string()) for name in ("column_name", "value", "kind")),
    ("near_time", _TIME),
]
_REFUSED = pa.schema(_REFUSED_COLUMNS)
_KINDS = {"path": "text", "size": "int", "text": "text", "sha256": "text", "media_type": "text"}
WHOLE_FILE = 0
"""The line of a refused row that is a file."""


@dataclass(frozen=True)
class DocumentsRequest:
    """Which documents to stage, and how."""

    source: str
    spec: FilesSource
    files: tuple[FileState, ...]
    times: DocumentTimes
    access: StoreAccess = ENVIRONMENT
    """The options that an object store is opened with."""

    @property
    def columns(self) -> _Columns:
        return _FACTS_OF_FILE + _CONTENT[self.spec.format]

    @property
    def digest(self) -> str:
        facts = {
            "version": _VERSION,
            "pdf": pdf_version() if self.spec.format == "text" else "",
            "files": [(f.path, f.size, f.written_ns, f.digest) for f in self.files],
            "spec": self.spec.model_dump(mode="json", include={"path", "format", "documents", "timezone"}),
            "patterns": [(pattern, start.isoformat()) for pattern, start in self.times.patterns],
        }
        return sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def stage_documents(request: DocumentsRequest, folder: Path) -> Staged:
    """Return the staged rows, which are made if the folder lacks them.

    Args:
        folder: that of the run. It is made if it does not exist.

    Raises:
        FilesChanged: a file is not as it was when the run was planned.
        BrokenFile: a file cannot be opened.
        SettingsError: there is a PDF, and pypdf is not installed.
    """
    return stage_once(request.source, request.digest, request.files, folder, lambda part: _write(request, part))


def _write(request: DocumentsRequest, folder: Path) -> None:
    found = _Found(request.columns)
    with (
        pq.ParquetWriter(folder / ROWS, pa.schema([*request.columns, *_PLACE])) as rows,
        pq.ParquetWriter(folder / REFUSED, _REFUSED) as refused,
    ):
        for state in request.files:
            found.add(_read_row(request, state))
            if found.is_full:
                found.write(rows, refused)
        found.write(rows, refused)
    facts = {
        "kinds": {name: _KINDS.get(name, "timestamp iso") for name, _ in request.columns},
        "guessed": [],
        "rows": found.rows,
        "refused": found.refused,
        "dialect": asdict(Dialect(request.spec.format)),
        "nested": [],
        "unclear": {},
        "without_text": found.without_text,
    }
    (folder / FACTS).write_text(json.dumps(facts))


@dataclass(frozen=True)
class _Refused:
    file: str
    reason: str
    text: str | None
    time: datetime | None


@dataclass
class _Found:
    """The rows read so far, of which those of the last batch are in memory."""

    columns: _Columns
    rows: int = 0
    refused: int = 0
    without_text: int = 0
    _batch: list[Mapping[str, Any]] = field(default_factory=list)
    _refusals: list[_Refused] = field(default_factory=list)
    _bytes: int = 0

    @property
    def is_full(self) -> bool:
        return len(self._batch) + len(self._refusals) >= _BATCH_ROWS or self._bytes >= _BATCH_BYTES

    def add(self, row: Mapping[str, Any] | _Refused) -> None:
        if isinstance(row, _Refused):
            self.refused += 1
            self._refusals.append(row)
            return
        self.rows += 1
        self.without_text += "text" in row and row["text"] is None
        self._bytes += len(row.get("text") or "")
        self._batch.append({**row, "_row_of_file": 0, "_position": self.rows})

    def write(self, rows: pq.ParquetWriter, refused: pq.ParquetWriter) -> None:
        if self._batch:
            rows.write_table(pa.Table.from_pylist(self._batch, pa.schema([*self.columns, *_PLACE])))
        if self._refusals:
            places = ((r.file, WHOLE_FILE, r.text, r.reason, None, None, None, r.time) for r in self._refusals)
            named = (dict(zip(_REFUSED.names, place, strict=True)) for place in places)
            refused.write_table(pa.Table.from_pylist(list(named), _REFUSED))
        self._batch, self._refusals, self._bytes = [], [], 0


def _read_row(request: DocumentsRequest, state: FileState) -> Mapping[str, Any] | _Refused:
    time = request.times.find(state.path, state.written_ns)
    try:
        if has_no_name := state.path != (name := show_stray_bytes(state.path)):
            raise UnreadableDocument("has a name that is not in UTF-8")
        if time is None:
            raise UnreadableDocument("has no time in its path as `documents: {time: …}` says")
        content = dict(_read_content(request, state))
    except UnreadableDocument as error:
        return _Refused(name if has_no_name else state.path, error.reason, error.text, time)
    path = below_fixed_folder(request.spec.path, state.path)
    times = {"time": time, "modified": modified_at(state.written_ns)}
    return {"path": path, "size": state.size, "_file": state.path, **times, **content}


def _open(state: FileState, access: StoreAccess) -> BinaryIO:
    return StoredObject(state, access).open("rb") if is_remote(state.path) else open(state.path, "rb")


def _digest(file: BinaryIO) -> str:
    digest = sha256()
    while piece := file.read(_PIECE_BYTES):
        digest.update(piece)
    return digest.hexdigest()


def _read_content(request: DocumentsRequest, state: FileState) -> Iterator[tuple[str, str | None]]:
    try:
        with _open(state, request.access) as file:
            if request.spec.format == "text":
                yield "text", read_text(file, state.path, request.spec.documents.encoding or "utf-8")
                return
            head = file.read(HEAD_BYTES)
            file.seek(0)
            yield "sha256", _digest(file)
            yield "media_type", find_media_type(head, state.path)
    except OSError as error:
        raise BrokenFile(request.source, state.path, error.strerror or str(error)) from error
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"source `{request.source}` has PDF files, and {error.name} is not installed",
            "Install Penstock's extra `documents`.",
        ) from None
