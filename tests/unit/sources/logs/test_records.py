"""Records of several lines, lines below a header, and last lines without an end."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from penstock.sources.logs import pieces as log_pieces
from penstock.sources.logs.files import QUIET, KnownFile, read_new_lines
from penstock.sources.logs.records import ONE_LINE, Layout

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STACK = Layout(record_start=r"\d+ ")
PYTHON_ONLY = Layout(record_start=r"(?=\d+ )")
W3C = Layout(has_fields=True)


class Logs:
    """A folder of logs, the state of their reading, and a clock."""

    def __init__(self, folder: Path, layout: Layout) -> None:
        self.folder, self.layout, self.now = folder, layout, NOW
        self.known: dict[str, KnownFile] = {}

    def write(self, name: str, data: bytes, *, append: bool = False) -> None:
        path = self.folder / name
        path.write_bytes((path.read_bytes() if append else b"") + data)
        self.now += timedelta(seconds=1)
        os.utime(path, (self.now.timestamp(), self.now.timestamp()))

    def read(self, batch_lines: int = 50_000) -> list[str]:
        lines = []
        for batch in read_new_lines(
            "log",
            str(self.folder / "*"),
            list(self.known.values()),
            (),
            batch_lines,
            now=self.now,
            layout=self.layout,
        ):
            self.known[batch.file.file_id] = batch.file
            lines += batch.lines.to_pylist()
        return lines


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.mark.parametrize("layout", [STACK, PYTHON_ONLY])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("batch_lines", [1, 2, 100])
def test_lines_that_begin_no_record_continue_the_one_before(
    folder: Path, layout: Layout, end: bytes, batch_lines: int
) -> None:
    logs = Logs(folder, layout)
    logs.write("a", end.join([b"1 one", b"2 two", b"\tat x", b"", b"  at y", b"3 three", b""]))
    assert logs.read(batch_lines) == ["1 one", "2 two\n\tat x\n\n  at y"]
    assert logs.read(batch_lines) == []
    logs.write("a", b"\tof three" + end + b"4 four" + end, append=True)
    assert logs.read(batch_lines) == ["3 three\n\tof three"]
    logs.now += QUIET * 2
    assert logs.read(batch_lines) == ["4 four"]


def test_a_record_larger_than_a_block_is_cut_and_nothing_is_lost(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_pieces, "BLOCK", 64)
    logs = Logs(folder, STACK)
    logs.write("a", b"1 one\n" + b"  more lines\n" * 20 + b"2 two\n3 three\n")
    found = logs.read()
    assert found[0].startswith("1 one\n  more")
    assert "\n".join(found) == "1 one\n" + "  more lines\n" * 20 + "2 two"


def test_lines_before_the_first_record_are_one_of_their_own(folder: Path) -> None:
    logs = Logs(folder, STACK)
    logs.write("a", b"of another file\n  too\n1 one\n2 two\n")
    assert logs.read() == ["of another file\n  too", "1 one"]


@pytest.mark.parametrize("batch_lines", [1, 100])
def test_each_line_gets_the_fields_that_hold_for_it(folder: Path, batch_lines: int) -> None:
    logs = Logs(folder, W3C)
    logs.write("a", b"#Version: 1.0\n#Fields: a b\n1 2\n#Date: x\n3 4\n#Fields: b a\n5 6\n")
    assert logs.read(batch_lines) == ["#Fields: a b\n1 2", "#Fields: a b\n3 4", "#Fields: b a\n5 6"]
    logs.write("a", b"7 8\n#Fields: c\n9\n", append=True)
    assert logs.read(batch_lines) == ["#Fields: b a\n7 8", "#Fields: c\n9"]
    logs.write("b", b"no fields\n")
    assert logs.read(batch_lines) == ["no fields"]


def test_fields_are_found_however_far_above(folder: Path) -> None:
    logs = Logs(folder, W3C)
    logs.write("a", b"#Fields: a\n" + b"".join(b"%d\n" % i for i in range(400_000)) + b"x" * (3 << 20) + b"\n")
    assert len(logs.read(1000)) == 400_001
    logs.write("a", b"last\n", append=True)
    assert logs.read() == ["#Fields: a\nlast"]


def test_the_last_line_waits_while_its_file_grows_and_is_landed_when_it_is_old(folder: Path) -> None:
    logs = Logs(folder, ONE_LINE)
    logs.write("app.log", b"1\n2")
    assert logs.read() == ["1"]
    logs.now += QUIET - timedelta(seconds=1)
    assert logs.read() == []
    logs.now += timedelta(seconds=2)
    assert logs.read() == ["2"]
    assert logs.read() == []
    assert not any(file.has_rest for file in logs.known.values())


def test_the_last_line_of_a_rotated_file_is_landed_once_the_next_file_is_written(folder: Path) -> None:
    logs = Logs(folder, ONE_LINE)
    logs.write("app.log", b"1\n2")
    assert logs.read() == ["1"]
    (folder / "app.log").rename(folder / "app.log.1")
    logs.write("app.log", b"")
    assert logs.read() == []  # the writer may still have the old file open
    logs.write("app.log", b"3\n")
    assert logs.read() == ["2", "3"]
    assert logs.read() == []


def test_a_file_of_another_name_says_nothing_of_the_last_line(folder: Path) -> None:
    logs = Logs(folder, ONE_LINE)
    logs.write("host-a.log", b"1\n2")
    logs.write("host-b.log", b"3\n")
    logs.write("host", b"4\n")
    assert sorted(logs.read()) == ["1", "3", "4"]


def test_a_file_that_was_read_before_and_is_old_now_gives_its_last_line(folder: Path) -> None:
    """Penstock 0.1 left the last line out and took the file for read."""
    logs = Logs(folder, ONE_LINE)
    logs.write("app.log", b"1\n2")
    logs.read()
    assert [file.has_rest for file in logs.known.values()] == [True]
    logs.now += QUIET * 2
    assert logs.read() == ["2"]
