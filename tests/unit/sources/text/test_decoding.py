"""Text files are opened as lines whatever compresses them and however they are encoded."""

import bz2
import gzip
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from penstock.sources.text.decoding import UnreadableArchive, has_stray_bytes, open_text, show_stray_bytes

TEXT = "a,b\r\n1,é\n2,x\r3,y\n"
LINES = ["a,b\r\n", "1,é\n", "2,x\r", "3,y\n"]


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as out:
        out.write(content)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress, zstd])
def test_lines_are_those_of_the_plain_file_and_keep_their_ends(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    file = tmp_path / "rows.csv"  # the suffix says nothing of the compression
    file.write_bytes(compress(TEXT.encode()))
    with open_text(file, "utf-8") as text:
        assert list(text) == LINES


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress, zstd])
def test_files_that_were_compressed_one_after_the_other_are_read_to_the_end(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(compress(b"a\n1\n") + compress(b"2\n"))
    with open_text(file, "utf-8") as text:
        assert list(text) == ["a\n", "1\n", "2\n"]


@pytest.mark.parametrize(
    ("written", "stated"),
    [
        ("utf-8-sig", "cp1252"),
        ("utf-16", "utf-8"),
        ("utf-32", "utf-8"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
        ("cp1252", "cp1252"),
        ("latin-1", "latin-1"),
    ],
)
def test_a_byte_order_mark_wins_and_is_no_part_of_the_first_name(tmp_path: Path, written: str, stated: str) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(TEXT.encode(written))
    with open_text(file, stated) as text:
        assert list(text) == LINES


def test_a_zip_file_with_one_file_is_read_and_with_several_refused_by_their_names(tmp_path: Path) -> None:
    one, two = tmp_path / "one.zip", tmp_path / "two.zip"
    with zipfile.ZipFile(one, "w") as archive:
        archive.writestr("folder/", "")
        archive.writestr("folder/rows.csv", TEXT)
        archive.writestr("__MACOSX/rows.csv", "x")
    with zipfile.ZipFile(two, "w") as archive:
        archive.writestr("a.csv", TEXT)
        archive.writestr("b.csv", TEXT)
    with open_text(one, "utf-8") as text:
        assert list(text) == LINES
    with pytest.raises(UnreadableArchive, match=r"2 files in it \(`a.csv`, `b.csv`\)"), open_text(two, "utf-8"):
        pass


@pytest.mark.parametrize(
    ("content", "encoding", "shown"),
    [
        (b"a\n\xe9\xff\nb\n", "utf-8", "\\xe9\\xff\n"),
        (b"a\n\x81\nb\n", "cp1252", "\\x81\n"),
        ("a\n".encode("utf-16-le") + b"\x00\xd8x\x00\n\x00" + "b\n".encode("utf-16-le"), "utf-16-le", "\\x00\\xd8x\n"),
    ],
)
def test_bytes_of_another_encoding_spoil_only_their_line(
    tmp_path: Path, content: bytes, encoding: str, shown: str
) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(content)
    with open_text(file, encoding) as text:
        lines = list(text)
    assert [has_stray_bytes(line) for line in lines] == [False, True, False]
    assert show_stray_bytes(lines[1]) == shown
