"""Archives of every kind are unpacked as a whole or not at all, and one that is broken stops no other file."""

import bz2
import gzip
import lzma
import os
import shutil
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import BrokenArchive
from penstock.sources.logs.files import KnownFile, read_new_lines
from penstock.sources.logs.records import ONE_LINE, Layout

NOW = datetime(2026, 1, 1, tzinfo=UTC)


ZSTD = shutil.which("zstd")


def zstd(data: bytes) -> bytes:
    """Pack with a checksum, as the program does. Arrow writes none, so it notices less."""
    if ZSTD:
        return subprocess.run([ZSTD, "-q", "-c"], input=data, capture_output=True, check=True).stdout
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as out:
        out.write(data)
    return sink.getvalue().to_pybytes()


PACK = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd}
SUFFIXES = pytest.mark.parametrize("suffix", list(PACK))


def read(folder: Path, known: dict[str, KnownFile] | None = None) -> tuple[list[str], list[BrokenArchive]]:
    broken: list[BrokenArchive] = []
    known = {} if known is None else known
    lines = []
    for batch in read_new_lines("log", str(folder / "*"), list(known.values()), (), now=NOW, set_aside=broken.append):
        known[batch.file.file_id] = batch.file
        lines += batch.lines.to_pylist()
    return lines, broken


@SUFFIXES
@pytest.mark.parametrize("name", ["a.log{}", "a.log"])
def test_an_archive_is_known_by_its_bytes_and_read_whole(tmp_path: Path, suffix: str, name: str) -> None:
    data = b"".join(b"%d line\n" % i for i in range(300_000))
    (tmp_path / name.format(suffix)).write_bytes(PACK[suffix](data) + PACK[suffix](b"last, without an end"))
    lines, broken = read(tmp_path)
    assert (len(lines), lines[299_999:], broken) == (300_001, ["299999 line", "last, without an end"], [])


@SUFFIXES
@pytest.mark.parametrize("spoil", ["cut", "one byte", "corrupt", "second", "garbage"])
def test_a_broken_archive_is_set_aside_and_the_others_are_read(tmp_path: Path, suffix: str, spoil: str) -> None:
    if (suffix, spoil) == (".zst", "corrupt") and not ZSTD:
        pytest.skip("needs the program zstd, which writes a checksum")
    good = PACK[suffix](b"".join(b"%d %d\n" % (i, i * i * 7919 % 1009) for i in range(20_000)))
    middle = len(good) // 2
    spoiled = {
        "cut": good[:middle],
        "one byte": good[:-1],
        "corrupt": good[:middle] + bytes([good[middle] ^ 0x55]) + good[middle + 1 :],
        "second": good + PACK[suffix](b"more\n" * 1000)[:-3],
        "garbage": good + b"no archive\n",
    }
    (tmp_path / f"b.log{suffix}").write_bytes(spoiled[spoil])
    (tmp_path / f"a.log{suffix}").write_bytes(PACK[suffix](b"first\n"))
    (tmp_path / "c.log").write_bytes(b"last\n")
    known: dict[str, KnownFile] = {}
    lines, [error] = read(tmp_path, known)
    assert sorted(lines) == ["first", "last"]
    assert error.file.endswith(f"b.log{suffix}")

    (tmp_path / f"b.log{suffix}").write_bytes(good)
    lines, broken = read(tmp_path, known)
    assert (len(lines), broken) == (20_000, [])
    assert read(tmp_path, known) == ([], [])


@SUFFIXES
def test_a_file_with_the_name_of_an_archive_that_is_none_is_set_aside(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a.log{suffix}").write_bytes(b"plain text\n")
    (tmp_path / f"b.log{suffix}").write_bytes(b"")
    lines, broken = read(tmp_path)
    assert lines == []
    assert [Path(error.file).name for error in broken] == [f"a.log{suffix}", f"b.log{suffix}"]


@pytest.mark.parametrize(
    ("name", "beginning"), [("a.zip", b"PK\x03\x04"), ("a.7z", b"7z\xbc\xaf\x27\x1c"), ("a.lz4", b"\x04\x22\x4d\x18")]
)
def test_an_archive_of_another_kind_is_no_text(tmp_path: Path, name: str, beginning: bytes) -> None:
    (tmp_path / name).write_bytes(beginning + b"rest\nof it\n")
    lines, [error] = read(tmp_path)
    assert lines == []
    assert "pack it as .gz, .bz2, .xz or .zst" in str(error)


def test_a_file_that_became_a_broken_archive_keeps_no_other_file_from_being_read(tmp_path: Path) -> None:
    known = dict[str, KnownFile]()
    (tmp_path / "a.log").write_bytes(b"1\n2\n")
    assert read(tmp_path, known)[0] == ["1", "2"]
    (tmp_path / "a.log").write_bytes(gzip.compress(b"1\n2\n3\n")[:-4])
    (tmp_path / "b.log").write_bytes(b"1\n2\n4\n")
    lines, [error] = read(tmp_path, known)
    assert (lines, Path(error.file).name) == (["4"], "a.log")


@SUFFIXES
def test_a_packed_file_is_read_on_from_where_the_plain_one_ended(tmp_path: Path, suffix: str) -> None:
    log, known = tmp_path / "a.log", dict[str, KnownFile]()
    log.write_bytes(b"1\n2\n3")
    os.utime(log, (NOW.timestamp(), NOW.timestamp()))
    assert read(tmp_path, known)[0] == ["1", "2"]
    (tmp_path / f"a.log.1{suffix}").write_bytes(PACK[suffix](b"1\n2\n34\n5"))
    log.unlink()
    assert read(tmp_path, known) == (["34", "5"], [])
    (tmp_path / f"a.log.1{suffix}").rename(tmp_path / f"a.log.2{suffix}")
    assert read(tmp_path, known) == ([], [])


def test_files_of_the_common_programs_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(b"1\n2\n")
    for program in (["gzip"], ["bzip2"], ["xz"], ["zstd", "-q"]):
        if not shutil.which(program[0]):
            continue
        subprocess.run([*program, "-k", "a.log"], cwd=tmp_path, check=True)
    lines, broken = read(tmp_path)
    assert (lines, broken) == (["1", "2"], [])


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["record", "record", "more", "half", "read", "read", "crash", "rotate", "pack", "touch"]),
        st.integers(0, 1 << 20),
    ),
    min_size=1,
    max_size=25,
)


@given(steps=STEPS, several=st.booleans())
@settings(max_examples=300, deadline=None)
def test_whatever_is_rotated_and_packed_each_record_comes_once_and_whole(
    steps: list[tuple[str, int]], several: bool
) -> None:
    """With several lines a record, a record is cut by landings, by rotation and by packing at any byte."""
    layout = Layout(record_start="r") if several else ONE_LINE
    with tempfile.TemporaryDirectory() as place:
        live, known, clock = Path(place) / "app.log", dict[str, KnownFile](), NOW.timestamp() - 600
        written: list[bytes] = []
        seen: list[str] = []
        rotated = 0

        def touch(path: Path) -> None:
            nonlocal clock
            clock += 1
            os.utime(path, (clock, clock))

        def take(batches: int | None, now: datetime = NOW) -> None:
            found = read_new_lines(
                "log", str(Path(place) / "app.log*"), list(known.values()), (), 2, now=now, layout=layout
            )
            for number, batch in enumerate(found):
                known[batch.file.file_id] = batch.file
                seen.extend(batch.lines.to_pylist())
                if batches is not None and number + 1 >= batches:
                    return

        def write(data: bytes, begins: bool) -> None:
            with live.open("ab") as file:
                file.write(data)
            touch(live)
            if begins:
                written.append(data)
            elif written:
                written[-1] += data

        live.write_bytes(b"")
        for step, choice in steps:
            open_line = live.stat().st_size > 0 and not live.read_bytes().endswith(b"\n")
            fresh = live.stat().st_size == 0
            if step in ("record", "half"):
                if open_line:
                    write(b"\n", begins=False)
                end = b"" if step == "half" else b"\n"
                write(b"r%d %s%s" % (len(written), b"x" * (choice % 300), end), begins=True)
            elif step == "more" and not fresh:
                write(b"  more %d\n" % choice if several or open_line else b"", begins=False)
            elif step == "read":
                take(None)
            elif step == "crash":
                take(1 + choice % 2)
            elif step == "touch":
                touch(live)
            elif step == "rotate" and not fresh:
                rotated += 1
                live.rename(Path(place) / f"app.log.{rotated}")
                live.write_bytes(b"")
                touch(live)
            elif step == "pack" and rotated:
                old = Path(place) / f"app.log.{1 + choice % rotated}"
                if old.exists():
                    suffix = list(PACK)[choice % 4]
                    old.with_name(old.name + suffix).write_bytes(PACK[suffix](old.read_bytes()))
                    old.unlink()
        take(None)
        take(None, datetime(2026, 1, 2, tzinfo=UTC))
        assert sorted(seen) == sorted(record.decode().rstrip("\n") for record in written)
        take(None, datetime(2026, 1, 2, tzinfo=UTC))
        assert len(seen) == len(written)
