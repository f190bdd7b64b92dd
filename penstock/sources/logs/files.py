"""Find new lines in log files that grow, rotate, and get packed or copied. Each whole line is returned once.

A file is identified by its content, never by its name or inode: by the hash of its head, and of the bytes before the
offset up to which it was read. A renamed or packed file is read on from its offset. A file that was truncated and
written anew, or that only begins like another, is a new file. A copy is recorded as a copy, and its lines are not
returned again.

Limits:

- *copytruncate* loses lines that are written between the copying and the truncation, and lines that were not read
  before the copy is deleted. If every line counts, rotate by renaming.
- Files with the same bytes so far count as copies of each other, so a first line that two files share (a header) is
  returned once.
- A copy that stops before the offset of a file that has gone, or is packed, looks like a new file.
- The last line counts without LF if no more is written to the file: it is an archive, it was not written for
  `QUIET`, or a newer file has the name that it was rotated from. Otherwise it waits, and so does the last record of
  several lines. If more is written nevertheless, it becomes a line of its own.
"""

import glob
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from penstock.errors import BrokenArchive, NoFiles
from penstock.sources.allowed_paths import check_files, check_pattern
from penstock.sources.logs.archives import find_codec, unpack
from penstock.sources.logs.content import (
    MARK,
    Content,
    digest,
    open_raw,
    packed_digest,
    plain_content,
    unpacked_content,
    write_stamp,
    written_at,
)
from penstock.sources.logs.pieces import cut_pieces
from penstock.sources.logs.records import ONE_LINE, Layout
from penstock.sources.logs.split import Lines, split_lines

_ROTATED = re.compile(r"[._-](?:[0-9].*|old|prev|bak)")
QUIET = timedelta(hours=1)
"""A file that was not written for so long counts as finished."""


@dataclass(frozen=True)
class KnownFile:
    """How far a file was read, and what identifies it."""

    file_id: str
    path: str
    head_hash: str
    head_bytes: int
    offset: int
    """Bytes that were read. For an archive, of its content."""
    tail_hash: str
    """Hash of the last `tail_bytes` before the offset."""
    tail_bytes: int
    signature: str
    """Size and time of writing (and an archive's digest) of a file that was read to its end. Empty between batches."""
    complete: bool
    """Whether it is an archive that was read to its end."""

    @property
    def has_rest(self) -> bool:
        """Whether its last line or record was still waiting for its end."""
        return not self.complete and self.signature.partition(":")[0] not in ("", str(self.offset))

    def written_as(self, stamp: str) -> bool:
        """Whether the file was read to its end in its present state."""
        return self.signature == stamp or self.signature.startswith(f"{stamp}:")

    def packed_as(self, packed: str) -> bool:
        """Whether it is the archive with this digest and was read to its end."""
        return self.complete and self.signature.endswith(f":{packed}")

    def is_begin_of(self, content: Content) -> bool:
        """Whether the content begins with the bytes that were read of this file."""
        return (
            content.size >= max(self.offset, self.head_bytes)
            and digest(content.head[: self.head_bytes]) == self.head_hash
            and digest(content.read_at(self.offset - self.tail_bytes, self.tail_bytes)) == self.tail_hash
        )


@dataclass(frozen=True)
class LineBatch:
    """New lines of one file, and the state to commit with them. There may be a new state without lines."""

    file: KnownFile
    start: int
    """The offset before the lines."""
    offsets: pa.Int64Array
    lines: pa.StringArray
    seen_at: datetime
    """When the file was last written."""
    broken: pa.BooleanArray
    """Lines in which bytes that are not UTF-8, and NUL, are written as `\\xff`, `\\x00`."""
    oversize: pa.BooleanArray
    """Lines that were cut to their beginning and length. They count as malformed, whatever the parser returns."""


def find_files(source_name: str, path: str, roots: tuple[str, ...]) -> list[Path]:
    """Return the regular files that a path or glob names, absolute, the longest unwritten first.

    Raises:
        NoFiles: no file matches.
        OutsideRoots: the path, or a file's link, points outside the allowed folders.
    """
    check_pattern(source_name, path, roots)
    names = [path] if Path(path).is_file() else glob.glob(path, recursive=True)
    found = {}
    for name in names:
        file = Path(name).absolute()
        try:
            status = file.stat()
        except OSError:  # the file has gone, or it is a broken link
            continue
        if stat.S_ISREG(status.st_mode):
            found[file] = status.st_mtime_ns
    if not found:
        raise NoFiles(source_name, path)
    check_files(source_name, path, found, roots)
    return sorted(found, key=lambda file: (found[file], str(file)))


def refuse(error: BrokenArchive) -> None:
    """Raise an error: stop at the first archive that cannot be unpacked."""
    raise error


def read_new_lines(
    source_name: str,
    path: str,
    known: Sequence[KnownFile],
    roots: tuple[str, ...],
    batch_lines: int = 50_000,
    *,
    now: datetime | None = None,
    layout: Layout = ONE_LINE,
    set_aside: Callable[[BrokenArchive], None] = refuse,
) -> Iterator[LineBatch]:
    """Yield whole lines that no earlier batch contained. Commit each batch with its state before the next.

    Args:
        now: the present. A file that was not written for `QUIET` is finished.
        layout: how lines make up records.
        set_aside: is called with each archive that cannot be unpacked. None of its lines is yielded.

    Raises:
        NoFiles: no file matches the path.
        BrokenFile: a file may not be read. No line of that file is yielded.
    """
    files = find_files(source_name, path, roots)
    by_id = {file.file_id: file for file in known}
    scan = _Scan(source_name, frozenset(map(str, files)), by_id, batch_lines, now or datetime.now(UTC), layout)
    for file in scan.put_in_order(files):
        batches = scan.read(file)
        while True:
            try:
                batch = next(batches, None)
            except BrokenArchive as error:
                set_aside(error)
                break
            if batch is None:
                break
            yield batch


@dataclass(frozen=True)
class _Scan:
    """One pass over the files. It updates `known`."""

    source_name: str
    paths: frozenset[str]
    known: dict[str, KnownFile]
    batch_lines: int
    now: datetime
    layout: Layout

    def put_in_order(self, files: Sequence[Path]) -> Iterator[Path]:
        """Yield the files that continue known ones first, then archives. A shorter copy is known by what it copies."""
        ranked: dict[int, list[Path]] = {0: [], 1: [], 2: []}
        for path in files:
            ranked[self._rank(path)].append(path)
        for paths in ranked.values():
            yield from paths

    def _rank(self, path: Path) -> int:
        if not self.known or self._is_read(path):
            return 2
        with open_raw(self.source_name, path) as handle:
            try:
                if handle is None or find_codec(self.source_name, path, handle):
                    return 1
            except BrokenArchive:
                return 1
            with plain_content(handle, finished=False) as content:
                return 0 if self._begins_of(content) else 2

    def read(self, path: Path) -> Iterator[LineBatch]:
        if self._is_read(path):
            return
        with self._open(path) as content:
            if isinstance(content, KnownFile):
                yield from self._adopt_packed(path, content)
            elif content is not None and content.size:
                yield from self._read(path, content)

    def _read(self, path: Path, content: Content) -> Iterator[LineBatch]:
        same = self._begins_of(content)
        reached = max((file.offset for file in same), default=0)
        start = self._copied_bytes(path, content, reached)
        old = self._entry_of(path, same)
        head = len(content.head)
        file_id = old.file_id if old else self._free_id(digest(content.head))
        end = self.layout.end(content, start)
        tail = content.hash_before(start), min(start, MARK)
        done = KnownFile(file_id, str(path), digest(content.head), head, start, *tail, signature="", complete=False)
        last = replace(done, signature=content.signature, complete=content.complete)
        for piece in cut_pieces(content, start, end, self.batch_lines, self.layout):
            offset = piece.start + piece.length
            state = last if offset == end else done
            state = replace(state, offset=offset, tail_hash=piece.tail_hash, tail_bytes=min(offset, MARK))
            yield self._batch(state, piece.start, piece.lines, content.seen_at)
        if start == end and last != old:
            yield self._batch(last, start, split_lines(b"", start), content.seen_at)

    def _batch(self, state: KnownFile, start: int, lines: Lines, seen_at: datetime) -> LineBatch:
        self.known[state.file_id] = state
        return LineBatch(state, start, lines.offsets, lines.text, seen_at, lines.broken, lines.oversize)

    def _is_read(self, path: Path) -> bool:
        """Whether the file was read to its end and nothing was written since. The file is not opened."""
        try:
            stamp = write_stamp(path.stat())
        except FileNotFoundError:
            return True
        own = [file for file in self.known.values() if file.path == str(path) and file.written_as(stamp)]
        return any(not file.has_rest for file in own)

    @contextmanager
    def _open(self, path: Path) -> Iterator[Content | KnownFile | None]:
        """Open a file's content. An archive with a known digest is not unpacked again."""
        with ExitStack() as stack:
            handle = stack.enter_context(open_raw(self.source_name, path))
            if handle is None:
                yield None
            elif codec := find_codec(self.source_name, path, handle):
                packed = packed_digest(handle)
                twin = next((file for file in self.known.values() if file.packed_as(packed)), None)
                fresh = unpacked_content(self.source_name, path, handle, codec, packed)
                yield twin or stack.enter_context(fresh)
            else:
                yield stack.enter_context(plain_content(handle, self._is_finished(path)))

    def _is_finished(self, path: Path) -> bool:
        """Whether no more is written to a plain file, by its age or by a newer file with its former name."""
        try:
            written = path.stat().st_mtime_ns
        except FileNotFoundError:
            return False
        if self.now - QUIET > datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=written // 1000):
            return True
        return any(_is_rotated_from(path, Path(other), written) for other in self.paths)

    def _adopt_packed(self, path: Path, twin: KnownFile) -> Iterator[LineBatch]:
        """Record an archive that was read before, under its new name or as a copy."""
        status, packed = path.stat(), twin.signature.rpartition(":")[2]
        old = self._entry_of(path, [file for file in self.known.values() if file.packed_as(packed)])
        file_id = old.file_id if old else self._free_id(twin.head_hash)
        state = replace(twin, file_id=file_id, path=str(path), signature=f"{write_stamp(status)}:{packed}")
        if state != old:
            yield self._batch(state, twin.offset, split_lines(b"", twin.offset), written_at(status))

    def _begins_of(self, content: Content) -> list[KnownFile]:
        """Return the known files that the content continues."""
        lengths = {file.head_bytes for file in self.known.values()}
        heads = {(length, digest(content.head[:length])) for length in lengths}
        alike = [file for file in self.known.values() if (file.head_bytes, file.head_hash) in heads]
        return [file for file in alike if file.is_begin_of(content)]

    def _entry_of(self, path: Path, same: list[KnownFile]) -> KnownFile | None:
        """Return the entry that this file continues: its own, or that of a file that is no longer at its path."""
        own = [file for file in same if file.path == str(path)]
        left = [] if own else [file for file in same if not self._still_there(file)]
        return max(own or left, key=lambda file: file.offset, default=None)

    def _still_there(self, file: KnownFile) -> bool:
        """Whether a known file is still at its path. Then another file with its content is a copy."""
        if file.path not in self.paths:
            return False
        path = Path(file.path)
        try:
            if file.written_as(write_stamp(path.stat())):
                return True
        except FileNotFoundError:
            return False
        try:
            with self._open(path) as content:
                if isinstance(content, KnownFile):
                    return content.head_hash == file.head_hash and content.offset >= file.offset
                return content is not None and file.is_begin_of(content)
        except BrokenArchive:  # it is reported when its turn comes
            return False

    def _copied_bytes(self, path: Path, content: Content, reached: int) -> int:
        """Return how many bytes were already read if this is a copy that is shorter than its original."""
        end = self.layout.end(content, reached)
        for file in self.known.values():
            if end == reached or file.offset < end or file.path == str(path):
                continue
            if end >= file.head_bytes and digest(content.head[: file.head_bytes]) != file.head_hash:
                continue
            if file.complete and self._still_there(file):
                if self._archive_begins_as(Path(file.path), content, end):
                    return end
            elif self._still_there(file):
                with self._open(Path(file.path)) as longer:
                    if isinstance(longer, Content) and longer.begins_as(content, end):
                        return end
        return reached

    def _archive_begins_as(self, path: Path, content: Content, end: int) -> bool:
        """Whether an archive begins with the first bytes of another. It is unpacked up to the first difference."""
        try:
            with path.open("rb") as handle:
                codec, offset = find_codec(self.source_name, path, handle), 0
                if codec is None:
                    return False
                for chunk in unpack(self.source_name, path, handle, codec):
                    part = chunk[: end - offset]
                    if part != content.read_at(offset, len(part)):
                        return False
                    offset += len(part)
                    if offset == end:
                        return True
        except (OSError, BrokenArchive):  # it is being replaced
            pass
        return False

    def _free_id(self, head_hash: str) -> str:
        name, number = head_hash[:12], 1
        while (file_id := name if number == 1 else f"{name}-{number}") in self.known:
            number += 1
        return file_id


def _is_rotated_from(path: Path, other: Path, written: int) -> bool:
    """Whether a file has the name of another with a suffix (`app.log.1`), and the other was written since."""
    name = path.name.removeprefix(other.name)
    if other.parent != path.parent or name == path.name or not _ROTATED.fullmatch(name):
        return False
    try:
        status = other.stat()
    except FileNotFoundError:
        return False
    return status.st_size > 0 and status.st_mtime_ns >= written
