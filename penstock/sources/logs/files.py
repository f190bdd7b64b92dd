"""Find what is new in log files that grow, rotate, are packed and copied; every whole line is handed out once.

A file is known by its content, never by its name or inode: by the hash of its head, and of the bytes before the offset
up to which it has been read. So a file that was renamed or packed is read on from there; one that was truncated and
written anew, or that merely begins like another, is a new file; a copy is remembered as one, and its lines are not
taken again.

What cannot be known:

- *copytruncate* has a window: lines written between the copying and the truncation are in neither file, and lines that
  had not been read when the copy is deleted are lost. Rotate by renaming where every line counts.
- Files whose bytes are the same so far count as copies of one another, so a first line that two files share (a header)
  is taken once.
- A copy that stops before the offset of a file that has gone, or is packed, cannot be told from a new file.
- A gzip's last line counts without LF, a plain file's waits for one.
"""

import glob
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from penstock.errors import NoFiles
from penstock.sources.allowed_paths import check_files, check_pattern
from penstock.sources.logs.content import (
    MARK,
    Content,
    digest,
    is_gzip,
    open_raw,
    packed_digest,
    plain_content,
    unpacked_content,
    write_stamp,
    written_at,
)
from penstock.sources.logs.pieces import cut_pieces
from penstock.sources.logs.split import Lines, split_lines


@dataclass(frozen=True)
class KnownFile:
    """How far a file has been read, and by what it is known again."""

    file_id: str
    path: str
    head_hash: str
    head_bytes: int
    offset: int
    """Bytes that have been taken; of a gzip, of its content."""
    tail_hash: str
    """Hash of the last `tail_bytes` before the offset."""
    tail_bytes: int
    signature: str
    """Size and time of writing (and a gzip's digest) of a file read to its end; empty between batches."""
    complete: bool
    """A gzip, read to its end."""

    def written_as(self, stamp: str) -> bool:
        """Whether the file was read to its end as it is."""
        return self.signature == stamp or self.signature.startswith(f"{stamp}:")

    def packed_as(self, packed: str) -> bool:
        """Whether it is the gzip with this digest, read to its end."""
        return self.complete and self.signature.endswith(f":{packed}")

    def is_begin_of(self, content: Content) -> bool:
        """Whether the content begins with what was read of this file."""
        return (
            content.size >= max(self.offset, self.head_bytes)
            and digest(content.head[: self.head_bytes]) == self.head_hash
            and digest(content.read_at(self.offset - self.tail_bytes, self.tail_bytes)) == self.tail_hash
        )


@dataclass(frozen=True)
class LineBatch:
    """New lines of one file, and the state to be committed with them; there may be no lines, only a new state."""

    file: KnownFile
    start: int
    """The offset before them."""
    offsets: pa.Int64Array
    lines: pa.StringArray
    seen_at: datetime
    """When the file was last written."""
    broken: pa.BooleanArray
    """Lines in which bytes that are not UTF-8, or NUL, are written as `\\xff`, `\\x00`."""
    oversize: pa.BooleanArray
    """Lines cut to their beginning and their length; to be counted as malformed, whatever the parser says."""


def find_files(source_name: str, path: str, roots: tuple[str, ...]) -> list[Path]:
    """Return the regular files that a path or glob names, absolute, the longest unwritten first.

    Raises:
        NoFiles: there is none.
        OutsideRoots: the path, or a file's link, leads out of the folders that may be read.
    """
    check_pattern(source_name, path, roots)
    names = [path] if Path(path).is_file() else glob.glob(path, recursive=True)
    found = {}
    for name in names:
        file = Path(name).absolute()
        try:
            status = file.stat()
        except OSError:  # gone meanwhile, or a link to nowhere
            continue
        if stat.S_ISREG(status.st_mode):
            found[file] = status.st_mtime_ns
    if not found:
        raise NoFiles(source_name, path)
    check_files(source_name, path, found, roots)
    return sorted(found, key=lambda file: (found[file], str(file)))


def read_new_lines(
    source_name: str, path: str, known: Sequence[KnownFile], roots: tuple[str, ...], batch_lines: int = 50_000
) -> Iterator[LineBatch]:
    """Yield the whole lines that no batch before has held; commit each batch with its state before taking the next.

    Raises:
        NoFiles: the path matches nothing.
        BrokenFile: a gzip is truncated, corrupt or too large, or a file may not be read; nothing of that file is
            yielded.
    """
    files = find_files(source_name, path, roots)
    scan = _Scan(source_name, frozenset(map(str, files)), {file.file_id: file for file in known}, batch_lines)
    for file in files:
        yield from scan.read(file)


@dataclass(frozen=True)
class _Scan:
    """One pass over the files; `known` moves on with it."""

    source_name: str
    paths: frozenset[str]
    known: dict[str, KnownFile]
    batch_lines: int

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
        end = content.end_of_lines(start)
        tail = content.hash_before(start), min(start, MARK)
        done = KnownFile(file_id, str(path), digest(content.head), head, start, *tail, signature="", complete=False)
        last = replace(done, signature=content.signature, complete=content.complete)
        for piece in cut_pieces(content, start, end, self.batch_lines):
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
        """Whether nothing was written to the file since it was read to its end; tells without opening it."""
        try:
            stamp = write_stamp(path.stat())
        except FileNotFoundError:
            return True
        return any(file.path == str(path) and file.written_as(stamp) for file in self.known.values())

    @contextmanager
    def _open(self, path: Path) -> Iterator[Content | KnownFile | None]:
        """Open a file's content; a gzip that is known by its digest is not unpacked again."""
        with ExitStack() as stack:
            handle = stack.enter_context(open_raw(self.source_name, path))
            if handle is None:
                yield None
            elif is_gzip(self.source_name, path, handle):
                packed = packed_digest(handle)
                twin = next((file for file in self.known.values() if file.packed_as(packed)), None)
                fresh = unpacked_content(self.source_name, path, handle, packed)
                yield twin or stack.enter_context(fresh)
            else:
                yield stack.enter_context(plain_content(handle))

    def _adopt_packed(self, path: Path, twin: KnownFile) -> Iterator[LineBatch]:
        """Remember a gzip that was read before, under its new name or as a copy."""
        status, packed = path.stat(), twin.signature.rpartition(":")[2]
        old = self._entry_of(path, [file for file in self.known.values() if file.packed_as(packed)])
        file_id = old.file_id if old else self._free_id(twin.head_hash)
        state = replace(twin, file_id=file_id, path=str(path), signature=f"{write_stamp(status)}:{packed}")
        if state != old:
            yield self._batch(state, twin.offset, split_lines(b"", twin.offset), written_at(status))

    def _begins_of(self, content: Content) -> list[KnownFile]:
        """Return the known files that the content goes on from."""
        lengths = {file.head_bytes for file in self.known.values()}
        heads = {(length, digest(content.head[:length])) for length in lengths}
        alike = [file for file in self.known.values() if (file.head_bytes, file.head_hash) in heads]
        return [file for file in alike if file.is_begin_of(content)]

    def _entry_of(self, path: Path, same: list[KnownFile]) -> KnownFile | None:
        """Return the entry that goes on in this file: its own, or that of a file that has left its place."""
        own = [file for file in same if file.path == str(path)]
        left = [] if own else [file for file in same if not self._still_there(file)]
        return max(own or left, key=lambda file: file.offset, default=None)

    def _still_there(self, file: KnownFile) -> bool:
        """Whether the path of a known file still holds it: then another file with its content is a copy."""
        if file.path not in self.paths:
            return False
        path = Path(file.path)
        try:
            if file.written_as(write_stamp(path.stat())):
                return True
        except FileNotFoundError:
            return False
        with self._open(path) as content:
            if isinstance(content, KnownFile):
                return content.head_hash == file.head_hash and content.offset >= file.offset
            return content is not None and file.is_begin_of(content)

    def _copied_bytes(self, path: Path, content: Content, reached: int) -> int:
        """Return how much has been taken, where this is a copy that is shorter than the file it was copied from."""
        end = content.end_of_lines(reached)
        for file in self.known.values():
            if end == reached or file.offset < end or file.path == str(path) or file.complete:
                continue
            if end >= file.head_bytes and digest(content.head[: file.head_bytes]) != file.head_hash:
                continue
            if self._still_there(file):
                with self._open(Path(file.path)) as longer:
                    if isinstance(longer, Content) and longer.begins_as(content, end):
                        return end
        return reached

    def _free_id(self, head_hash: str) -> str:
        name, number = head_hash[:12], 1
        while (file_id := name if number == 1 else f"{name}-{number}") in self.known:
            number += 1
        return file_id
