"""Records of CSV files: their values, their lines, and those that are refused alone."""

import io
from dataclasses import replace
from typing import Any

import pytest

from penstock.sources.text.csv_rows import CsvRows
from penstock.sources.text.dialect import Dialect
from penstock.sources.text.records import Record, RefusedRecord
from penstock.spec.dialects import BLANKS

CSV = Dialect("csv")


def read(text: str, **dialect: Any) -> tuple[tuple[str, ...], list[Any], list[tuple[int, str, str]]]:
    """Return the columns, the rows with their lines, and the refusals."""
    rows = CsvRows(io.StringIO(text, newline=""), replace(CSV, **dialect))
    found = list(rows)
    kept = [(r.line, *r.values) for r in found if isinstance(r, Record)]
    return rows.columns, kept, [(r.line, r.text, r.reason) for r in found if isinstance(r, RefusedRecord)]


def test_mixed_line_ends_and_values_with_line_ends_keep_the_lines_right() -> None:
    _, rows, refused = read('a,b\r\n1,"x\r\ny"\n2,z\r3,w\n4\n')
    assert rows == [(2, "1", "x\r\ny"), (4, "2", "z"), (5, "3", "w")]
    assert refused == [(6, "4", "1 field instead of 2")]


def test_a_trailing_separator_is_no_column() -> None:
    columns, rows, refused = read("a,b,\n1,2,\n3,4\n5,6, ,\n7,8,9\n")
    assert columns == ("a", "b")
    assert rows == [(2, "1", "2"), (3, "3", "4"), (4, "5", "6")]
    assert refused == [(5, "7,8,9", "3 fields instead of 2")]


def test_blank_lines_comments_and_a_preamble_are_no_rows() -> None:
    columns, rows, refused = read("made by x\n\n# of today\na;b\n#1;2\n\n3;4\n", skip=1, comment="#", delimiter=";")
    assert (columns, rows, refused) == (("a", "b"), [(7, "3", "4")], [])


def test_a_comment_character_inside_of_a_quoted_value_is_a_value() -> None:
    assert read('a,b\n1,"x\n#y"\n', comment="#")[1] == [(2, "1", "x\n#y")]


def test_a_total_below_the_rows_is_refused() -> None:
    assert read("a,b,c\n1,2,3\nTOTAL: 1 row\n")[2] == [(3, "TOTAL: 1 row", "1 field instead of 3")]


def test_a_header_that_files_put_into_one_have_again_is_refused() -> None:
    columns, rows, refused = read("a, b,\n1,2,\na, b,\n3,4\n\ufeffa, b,\na,b\n")
    assert columns == ("a", "b")
    assert rows == [(2, "1", "2"), (4, "3", "4"), (6, "a", "b")]
    assert refused == [(3, "a, b,", "repeats the header"), (5, "\ufeffa, b,", "repeats the header")]


def test_a_word_that_repeats_the_only_title_is_a_value() -> None:
    assert read("word\nblue\nword\n")[1:] == ([(2, "blue"), (3, "word")], [])


@pytest.mark.parametrize("header", [True, False])
def test_fields_between_blanks_have_no_empty_neighbours(header: bool) -> None:
    columns, rows, _ = read("  1  2\t3   \n4 5 6 \n", delimiter=BLANKS, header=header)
    assert columns == (("1", "2", "3") if header else ("column0", "column1", "column2"))
    assert rows == ([] if header else [(1, "1", "2", "3")]) + [(2, "4", "5", "6")]


def test_a_quote_that_is_not_closed_takes_no_good_row_with_it() -> None:
    _, rows, refused = read('a,b\n1,"x\n2,y\n3,"z"\n4,w\n')
    assert rows == [(3, "2", "y"), (4, "3", "z"), (5, "4", "w")]
    assert refused == [(2, '1,"x', "a quote that is not closed")]


def test_a_quote_that_is_not_closed_before_the_end_of_the_file_takes_no_good_row_with_it() -> None:
    _, rows, refused = read('a,b\n1,"x\n' + "2,y\n" * 1000)
    assert len(rows) == 1000
    assert refused == [(2, '1,"x', "a quote that is not closed")]


def test_text_after_a_closing_quote_is_refused() -> None:
    assert read('a,b\n1,"5" pipe"\n2,x\n')[1:] == ([(3, "2", "x")], [(2, '1,"5" pipe"', "text after a closing quote")])


def test_an_escaped_quote_and_no_quotes_at_all() -> None:
    assert read('a;b\n1;"x\\"y"\n', delimiter=";", escape="\\")[1] == [(2, "1", 'x"y')]
    assert read('a;b\n1;"x\n2;y\n', delimiter=";", quote="")[1] == [(2, "1", '"x'), (3, "2", "y")]


@pytest.mark.parametrize(("delimiter", "quote"), [(",", '"'), ("\t", ""), ("|", '"'), ("blanks", "")])
def test_the_null_of_databases_keeps_its_backslash(delimiter: str, quote: str) -> None:
    mark = "\t" if delimiter == BLANKS else delimiter
    lines = [r"\N a\Nb \N", r"x \\N y", r"\N \N \N"]
    text = "".join(line.replace(" ", mark) + "\r\n" for line in lines)

    _, rows, _ = read(text, delimiter=delimiter, quote=quote, escape="\\", header=False)

    assert rows == [(1, r"\N", "aNb", r"\N"), (2, "x", r"\N", "y"), (3, r"\N", r"\N", r"\N")]


def test_records_are_numbered_with_the_refused_ones() -> None:
    found = list(CsvRows(io.StringIO("a,b\n1,2\n3\n4,5\n"), CSV))
    assert [record.number for record in found] == [0, 1, 2]


def test_names_replace_a_header_and_stand_in_for_a_missing_one() -> None:
    assert read("x,y\n1,2\n", names=("a", "b"))[:2] == (("a", "b"), [(2, "1", "2")])
    assert read("1,2\n", names=("a", "b"), header=False)[:2] == (("a", "b"), [(1, "1", "2")])
