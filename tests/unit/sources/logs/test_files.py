"""Log files are known by content: every whole line is handed out once, whatever was renamed, packed, cut or copied."""

import gzip
import os
import random
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from penstock.errors import BrokenFile, NoFiles
from penstock.sources.logs import content as log_content
from penstock.sources.logs import pieces as log_pieces
from penstock.sources.logs import split as log_split
from penstock.sources.logs.files import KnownFile, LineBatch, find_files, read_new_lines
from penstock.sources.logs.records import ONE_LINE

HEADER = b"# the same beginning in every file\n" * 40  # more than the head that is hashed


class Folder:
    """Log files, and what a ledger would remember of them."""

    def __init__(self, folder: Path, pattern: str = "*") -> None:
        self.folder, self.pattern = folder, str(folder / pattern)
        self.known: dict[str, KnownFile] = {}
        self.batches: list[LineBatch] = []
        self._clock = 1_700_000_000
        self.layout = ONE_LINE

    def write(self, name: str, data: bytes) -> None:
        (self.folder / name).write_bytes(data)
        self.touch(name)

    def append(self, name: str, data: bytes) -> None:
        with (self.folder / name).open("ab") as file:
            file.write(data)
        self.touch(name)

    def touch(self, name: str) -> None:
        """Give the file a time of writing of its own, as a real clock would."""
        self._clock += 1
        os.utime(self.folder / name, (self._clock, self._clock))

    @property
    def now(self) -> datetime:
        """The time of the newest writing: files are still growing."""
        return datetime.fromtimestamp(self._clock, UTC)

    def rename(self, old: str, new: str) -> None:
        (self.folder / old).rename(self.folder / new)

    def read(self, batch_lines: int = 50_000) -> list[str]:
        self.batches = list(
            self.commit(
                read_new_lines(
                    "log",
                    self.pattern,
                    list(self.known.values()),
                    (),
                    batch_lines,
                    now=self.now,
                    layout=self.layout,
                )
            )
        )
        return [line for batch in self.batches for line in batch.lines.to_pylist()]

    def commit(self, batches: Iterator[LineBatch]) -> Iterator[LineBatch]:
        for batch in batches:
            self.known[batch.file.file_id] = batch.file
            yield batch


@pytest.fixture
def logs(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_lines_come_once_and_in_order(logs: Folder) -> None:
    logs.write("a", b"1\n2\n")
    assert logs.read() == ["1", "2"]
    logs.append("a", b"3\n")
    assert logs.read() == ["3"]
    assert logs.read() == []
    assert logs.batches == []


def test_a_partial_last_line_waits(logs: Folder) -> None:
    logs.write("a", b"1\nhal")
    assert logs.read() == ["1"]
    logs.append("a", b"f\n")
    assert logs.read() == ["half"]


def test_an_unchanged_file_is_not_opened(logs: Folder) -> None:
    logs.write("a", b"1\n")
    logs.read()
    status = (logs.folder / "a").stat()
    (logs.folder / "a").write_bytes(b"2\n")
    os.utime(logs.folder / "a", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert logs.read() == []


def test_a_touched_file_gives_a_batch_without_lines(logs: Folder) -> None:
    logs.write("a", b"1\n")
    logs.read()
    logs.touch("a")
    assert logs.read() == []
    assert [len(batch.lines) for batch in logs.batches] == [0]
    assert logs.read() == []
    assert logs.batches == []


def test_a_crash_between_batches_resumes_at_the_last_committed_one(logs: Folder) -> None:
    logs.write("a", b"".join(b"%d\n" % i for i in range(100)))
    reading = logs.commit(read_new_lines("log", logs.pattern, [], (), batch_lines=7, now=logs.now))
    seen = [line for _, batch in zip(range(3), reading, strict=False) for line in batch.lines.to_pylist()]
    seen += logs.read(batch_lines=7)
    assert seen == [str(i) for i in range(100)]


def test_offsets_are_those_of_the_lines(logs: Folder) -> None:
    data = b"\xef\xbb\xbffirst\r\n\nsecond\n\r\nthird\n"
    logs.write("a", data)
    assert logs.read(batch_lines=2) == ["first", "second", "third"]
    offsets = [offset for batch in logs.batches for offset in batch.offsets.to_pylist()]
    assert [data[offset : offset + 5] for offset in offsets] == [b"first", b"secon", b"third"]


def test_only_line_feeds_split(logs: Folder) -> None:
    logs.write("a", "a\u2028b\x0bc\x0cd\x85e\rf\r\n".encode())
    assert logs.read() == ["a\u2028b\x0bc\x0cd\x85e\rf"]


def test_bytes_that_are_not_utf8_are_escaped_and_flagged(logs: Folder) -> None:
    logs.write("a", b"good\nb\xffd\ngo\xc3\xb6d\nnul\0nul\n")
    assert logs.read() == ["good", "b\\xffd", "goöd", "nul\\x00nul"]
    assert logs.batches[0].broken.to_pylist() == [False, True, False, True]


def test_a_character_cut_by_the_line_end_does_not_join_two_lines(logs: Folder) -> None:
    logs.write("a", b"x\xc3\n\xb6y\n")
    assert logs.read() == ["x\\xc3", "\\xb6y"]


def test_a_line_beyond_the_limit_is_cut_and_flagged(logs: Folder) -> None:
    logs.write("a", b"before\n" + b"x" * (log_split.MAX_LINE + 1) + b"\nafter\n")
    before, cut, after = logs.read()
    assert (before, after) == ("before", "after")
    assert cut == "x" * 256 + f"… ({log_split.MAX_LINE + 1} bytes)"
    assert logs.batches[0].oversize.to_pylist() == [False, True, False]


def test_a_line_beyond_the_memory_limit_is_cut_as_well(logs: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_pieces, "BLOCK", 2000)
    logs.write("a", b"before\n" + b"x" * 9000 + b"\nafter\n")
    assert logs.read() == ["before", "x" * 256 + "… (9000 bytes)", "after"]


def test_a_file_larger_than_a_block_comes_whole(logs: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_pieces, "BLOCK", 64)
    lines = [f"line {i} {'y' * (i % 40)}" for i in range(500)]
    logs.write("a", "\r\n".join([*lines, ""]).encode())
    assert logs.read(batch_lines=3) == lines


def test_a_renamed_file_is_read_on_before_the_new_one(logs: Folder) -> None:
    logs.write("a.log", b"1\n2\n")
    logs.read()
    logs.append("a.log", b"3\n")
    logs.rename("a.log", "a.log.1")
    logs.write("a.log", b"4\n")
    assert logs.read() == ["3", "4"]
    assert sorted(Path(file.path).name for file in logs.known.values()) == ["a.log", "a.log.1"]


def test_a_packed_file_is_read_on_by_its_content(logs: Folder) -> None:
    logs.write("a.log", b"1\n2\n")
    logs.read()
    (logs.folder / "a.log").unlink()
    logs.write("a.log.1.gz", gzip.compress(b"1\n2\n3\nlast"))
    assert logs.read() == ["3", "last"]
    assert [file.complete for file in logs.known.values()] == [True]


def test_a_packed_file_that_is_renamed_is_not_unpacked_again(logs: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    logs.write("a.1.gz", gzip.compress(b"1\n2\n"))
    assert logs.read() == ["1", "2"]
    logs.rename("a.1.gz", "a.2.gz")
    monkeypatch.setattr("penstock.sources.logs.files.unpacked_content", None)
    with pytest.raises(TypeError):
        Folder(logs.folder).read()
    monkeypatch.setattr("penstock.sources.logs.files.unpacked_content", lambda *_: None)
    assert logs.read() == []
    assert [Path(file.path).name for file in logs.known.values()] == ["a.2.gz"]


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_a_copy_is_taken_once(logs: Folder, names: tuple[str, str]) -> None:
    logs.write(names[0], b"1\n2\n")
    logs.write(names[1], b"1\n2\n3\n")
    assert sorted(logs.read()) == ["1", "2", "3"]
    assert logs.read() == []
    logs.append(names[0], b"3\n4\n")
    assert logs.read() == ["4"]
    logs.append(names[1], b"4\n5\n")
    assert logs.read() == ["5"]


def test_a_shorter_copy_that_appears_later_is_taken_once(logs: Folder) -> None:
    logs.write("a", b"1\n2\n3\n")
    logs.read()
    logs.write("old-copy", b"1\n2\nhal")
    assert logs.read() == []
    (logs.folder / "a").unlink()
    logs.append("old-copy", b"f\n")
    assert logs.read() == ["half"]


def test_a_truncated_file_is_a_new_file(logs: Folder) -> None:
    logs.write("a", HEADER + b"1\n2\n")
    logs.read()
    logs.write("a", HEADER + b"3\n")
    assert logs.read() == [*HEADER.decode().splitlines(), "3"]
    assert len(logs.known) == 2


def test_a_file_regrown_beyond_the_offset_is_a_new_file(logs: Folder) -> None:
    logs.write("a", HEADER + b"1\n2\n")
    logs.read()
    logs.write("a", HEADER + b"3\n4\n5\n6\n")
    assert logs.read()[-4:] == ["3", "4", "5", "6"]


def test_copytruncate_between_reads_loses_and_repeats_nothing(logs: Folder) -> None:
    logs.write("a", b"1\n2\n")
    logs.read()
    logs.append("a", b"3\n")
    logs.write("a.1", (logs.folder / "a").read_bytes())
    logs.write("a", b"4\n")
    assert logs.read() == ["3", "4"]


def test_files_that_begin_alike_are_told_apart_by_what_follows(logs: Folder) -> None:
    logs.write("a", HEADER + b"a1\n" * 600)
    logs.write("b", HEADER + b"b1\n" * 600)
    lines = logs.read()
    assert (lines.count("a1"), lines.count("b1")) == (600, 600)
    assert [name.partition("-")[2] for name in sorted(logs.known)] == ["", "2"]


def test_file_ids_do_not_depend_on_names_or_times(tmp_path: Path) -> None:
    ids = []
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        logs = Folder(tmp_path / folder)
        logs.write(f"{folder}.log", b"1\n2\n")
        logs.read()
        ids.append(set(logs.known))
    assert ids[0] == ids[1]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_gzip_gives_nothing(logs: Folder, share: float) -> None:
    noise = random.Random(1)
    packed = gzip.compress(b"".join(b"%d\n" % noise.getrandbits(64) for _ in range(20_000)))
    logs.write("a.gz", packed[: int(len(packed) * share)])
    with pytest.raises(BrokenFile, match=r"a\.gz cannot be read: the gzip is truncated"):
        logs.read()
    assert logs.known == {}


@pytest.mark.parametrize("cut", [1, 4, 8, 9])
def test_a_gzip_that_lacks_its_checksum_gives_nothing(logs: Folder, cut: int) -> None:
    logs.write("a.gz", gzip.compress(b"1\n2\n")[:-cut])
    with pytest.raises(BrokenFile, match="truncated"):
        logs.read()


def test_a_corrupt_gzip_gives_nothing(logs: Folder) -> None:
    packed = bytearray(gzip.compress(b"".join(b"%d\n" % i for i in range(5_000))))
    packed[len(packed) // 2] ^= 0xFF
    logs.write("a.gz", bytes(packed))
    with pytest.raises(BrokenFile, match="corrupt"):
        logs.read()


def test_a_text_file_named_gz_is_refused(logs: Folder) -> None:
    logs.write("a.gz", b"1\n")
    with pytest.raises(BrokenFile, match="is not a gzip file"):
        logs.read()


def test_a_gzip_is_known_by_its_bytes_and_may_have_members_and_padding(logs: Folder) -> None:
    logs.write("a.log", gzip.compress(b"1\n2") + gzip.compress(b"2\n3\n") + b"\0" * 512)
    assert logs.read() == ["1", "22", "3"]


def test_a_gzip_bomb_is_refused(logs: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_content, "FREE_BYTES", 1 << 20)
    logs.write("a.gz", gzip.compress(b"x" * (8 << 20)))
    with pytest.raises(BrokenFile, match="200 times"):
        logs.read()
    monkeypatch.setattr(log_content, "MAX_UNPACKED_BYTES", 1 << 20)
    with pytest.raises(BrokenFile, match="1048576 bytes"):
        logs.read()


def test_a_file_truncated_while_it_is_read_ends_the_reading(logs: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_pieces, "BLOCK", 16)
    logs.write("a", b"".join(b"%04d\n" % i for i in range(20)))
    reading = logs.commit(read_new_lines("log", logs.pattern, [], ()))
    first = next(reading).lines.to_pylist()
    logs.write("a", b"".join(b"%04d\n" % i for i in range(100, 140)))
    assert first == ["0000", "0001", "0002"]
    assert list(reading) == []
    assert logs.read() == [f"{i:04d}" for i in range(100, 140)]


def test_only_regular_files_are_found_oldest_first(logs: Folder) -> None:
    logs.write("new", b"")
    logs.write("old", b"")
    os.utime(logs.folder / "old", (1, 1))
    (logs.folder / "folder").mkdir()
    os.mkfifo(logs.folder / "pipe")
    (logs.folder / "link").symlink_to(logs.folder / "pipe")
    (logs.folder / "nowhere").symlink_to(logs.folder / "missing")
    assert [file.name for file in find_files("log", logs.pattern, ())] == ["old", "new"]


def test_a_glob_may_go_down_into_folders_and_a_plain_path_may_hold_brackets(logs: Folder) -> None:
    (logs.folder / "x" / "y").mkdir(parents=True)
    logs.write("x/y/a[1].log", b"1\n")
    assert len(find_files("log", str(logs.folder / "**" / "*.log"), ())) == 1
    assert len(find_files("log", str(logs.folder / "x" / "y" / "a[1].log"), ())) == 1


def test_a_path_without_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NoFiles, match="no file matches"):
        list(read_new_lines("log", str(tmp_path / "*.log"), [], ()))


def test_a_file_that_may_not_be_read_is_named(logs: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    logs.write("a", b"1\n")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(BrokenFile, match=r"a cannot be read: Permission denied"):
        logs.read()


def test_known_files_hold_nothing_but_plain_values(logs: Folder) -> None:
    logs.write("a", b"1\n")
    logs.read()
    (file,) = logs.known.values()
    assert KnownFile(**vars(file)) == file == replace(file)
    assert isinstance(logs.batches[0].lines, pa.StringArray)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["append", "append", "partial", "read", "read", "rename", "copytruncate", "pack", "copy", "touch", "crash"]
        ),
        st.integers(0, 1 << 30),
    ),
    min_size=1,
    max_size=30,
)


@example(
    steps=[("copy", 0), ("append", 0), ("touch", 0), ("crash", 0), ("append", 0), ("rename", 0)],
    header=b"",
)
@example(steps=[("copy", 0), ("crash", 0), ("append", 0), ("touch", 0), ("rename", 0)], header=HEADER)
@example(steps=[("copy", 0), ("append", 0), ("rename", 0), ("pack", 1), ("touch", 0)], header=b"")
@given(steps=STEPS, header=st.sampled_from([b"", HEADER]))
@settings(max_examples=400, deadline=None)
def test_whatever_happens_to_the_files_each_line_comes_once_and_in_order(
    steps: list[tuple[str, int]], header: bytes
) -> None:
    with tempfile.TemporaryDirectory() as place:
        logs = Folder(Path(place))
        written, seen, partial = 0, list[str](), b""

        def start() -> None:
            """Begin the live file with its header and one line of its own, as one write."""
            nonlocal written
            logs.write("live", header + b"%d first\n" % written)
            written += 1

        def take(batches: int | None) -> None:
            known = list(logs.known.values())
            reading = logs.commit(read_new_lines("log", logs.pattern, known, (), batch_lines=2, now=logs.now))
            for number, batch in enumerate(reading):
                seen.extend(line for line in batch.lines.to_pylist() if not line.startswith("#"))
                if batches is not None and number + 1 >= batches:
                    return

        start()
        for count, (step, choice) in enumerate(steps):
            names = sorted(path.name for path in Path(place).iterdir())
            others = [name for name in names if name != "live" and not name.endswith(".gz")]
            if step in ("append", "partial"):
                line = b"%d %s\n" % (written, b"x" * (choice % 700)) if not partial else b" rest\n"
                if step == "partial" and not partial:
                    partial = line[: len(line) // 2]
                    logs.append("live", partial)
                    written += 1
                else:
                    written += not partial
                    logs.append("live", line)
                    partial = b""
            elif step == "read":
                take(None)
            elif step == "crash":
                take(1 + choice % 3)
            elif step == "rename" and not partial:
                logs.rename("live", f"rotated-{count}")
                start()
            elif step == "copytruncate" and not partial:
                take(None)
                logs.write(f"copied-{count}", (Path(place) / "live").read_bytes())
                start()
            elif step == "pack" and others:
                name = others[choice % len(others)]
                content = (Path(place) / name).read_bytes()
                if content.endswith(b"\n"):
                    logs.write(f"{name}.gz", gzip.compress(content, mtime=0))
                    if choice % 3:
                        (Path(place) / name).unlink()
            elif step == "copy":
                name = names[choice % len(names)]
                if not (name == "live" and partial):
                    suffix = ".gz" if name.endswith(".gz") else ""
                    logs.write(f"copy-{count}{suffix}", (Path(place) / name).read_bytes())
            elif step == "touch":
                logs.touch(names[choice % len(names)])
        if partial:
            logs.append("live", b" rest\n")
        take(None)
        numbers = [int(line.split()[0]) for line in seen]
        assert sorted(numbers) == list(range(written))
        take(None)
        assert len(seen) == written
