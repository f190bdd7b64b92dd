"""Files of rows that a person gives to a command, read as a source reads them."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from penstock.errors import PenstockError
from penstock.sources.given_file import is_rows_file, read_given_file

CSV = "when,state,zip,age\n2026-01-05,NA,01234,41\n2026-01-06,,9876,\n2026-01-07,n/a,00001,7\n"


def plain(path: Path, text: str) -> None:
    path.write_text(text)


def zipped(path: Path, text: str) -> None:
    path.write_bytes(gzip.compress(text.encode()))


@pytest.mark.parametrize(("name", "write"), [("rows.csv", plain), ("rows.csv.gz", zipped), ("ro[w]s.CSV.gz", zipped)])
def test_a_csv_file_is_read_as_a_source_reads_it(tmp_path: Path, name: str, write: Callable[[Path, str], None]) -> None:
    write(tmp_path / name, CSV)

    given = read_given_file("reference rows", tmp_path / name)

    assert given["state"].to_pylist() == ["NA", None, "n/a"]
    assert given.column_names == ["when", "state", "zip", "age"]
    assert given["age"].to_pylist() == [41, None, 7]


def test_json_lines_are_read_and_in_their_order(tmp_path: Path) -> None:
    zipped(tmp_path / "rows.jsonl.gz", "".join(f'{{"n": {n}, "x": {n / 4}}}\n' for n in range(3000)))

    given = read_given_file("reference rows", tmp_path / "rows.jsonl.gz")

    assert given["n"].to_pylist() == list(range(3000))


def test_parquet_files_keep_the_categories_of_pandas(tmp_path: Path) -> None:
    frame = pd.DataFrame({"city": pd.Categorical(["b", "a"], categories=["b", "c", "a"])})
    frame.to_parquet(tmp_path / "rows.parquet")

    given = read_given_file("reference rows", tmp_path / "rows.parquet")

    assert pa.types.is_dictionary(given.schema.field("city").type)
    assert given.equals(parquet.read_table(tmp_path / "rows.parquet"))


@pytest.mark.parametrize(
    ("name", "content"), [("rows.xlsx", b"PK"), ("rows.parquet", b"no"), ("rows.csv", b""), ("rows", b"a\n1\n")]
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(PenstockError, match="cannot be read"):
        read_given_file("reference rows", tmp_path / name)


def test_names_of_files_are_told_from_names_of_columns() -> None:
    assert [is_rows_file(n) for n in ("a.parquet", "p/a.csv.gz", "a.jsonl", "score", "a,b", "a.b")] == [True] * 3 + [
        False
    ] * 3


def test_a_single_row_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """A row that is left out would move all rows after it away from their expected outputs."""
    good = "".join(f"{n},{n / 4}\n" for n in range(500))
    (tmp_path / "rows.csv").write_text(f"a,b\n{good}1,2,3,4\n{good}")

    with pytest.raises(PenstockError):
        read_given_file("reference rows", tmp_path / "rows.csv")


def test_a_folder_of_a_given_file_gives_no_column(tmp_path: Path) -> None:
    (tmp_path / "run=5").mkdir()
    plain(tmp_path / "run=5" / "rows.csv", CSV)

    assert read_given_file("rows", tmp_path / "run=5" / "rows.csv").column_names == ["when", "state", "zip", "age"]
