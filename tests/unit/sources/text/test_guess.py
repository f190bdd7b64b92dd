"""What a CSV or JSON file shows of its dialect, and what it does not show."""

from pathlib import Path
from typing import Any

import pytest

from penstock.errors import AmbiguousDialect, DialectChanged
from penstock.sources.text.dialect import Dialect
from penstock.sources.text.guess import guess_dialect
from penstock.spec.sources import FilesSource


def guess(folder: Path, *texts: str | bytes, kind: str = "csv", contract: Any = None, **more: Any) -> Dialect:
    files = []
    expected = more.pop("expected", ())
    for number, text in enumerate(texts):
        files.append(folder / f"{number}.{kind}")
        files[-1].write_bytes(text if isinstance(text, bytes) else text.encode())
    source = FilesSource.model_validate({"kind": "files", "path": "x", "format": kind} | more)
    return guess_dialect("rows", source, files, contract, expected)


# --- the first row -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "k1,red\nk2,blue\nk3,red\n",
        "k1,red\nk2,blue\nk1,red\n",
        "red\nblue\nred\ngreen\nred\n",
        "1,1,-0.0007\n1,2,0.0019\n2,1,0.0003\n",
        "28,1,NaN,28\n29,0,NaN,3\n",
        "1,100\n2,250\n3,180\n",
        "2026-01-01,5\n2026-01-02,6\n",
    ],
)
def test_a_first_row_of_data_is_no_header(tmp_path: Path, text: str) -> None:
    assert guess(tmp_path, text).header is False


@pytest.mark.parametrize(
    "text",
    [
        "id,colour\n1,red\n2,blue\n",
        "country,2019,2020\nc1,5,6\nc2,7,8\n",
        "id,2019-01,2019-02\n1,5,6\n2,7,8\n",
        ",a,b\n0,5,6\n1,7,8\n",
    ],
)
def test_a_row_of_names_is_a_header(tmp_path: Path, text: str) -> None:
    assert guess(tmp_path, text).header is True


@pytest.mark.parametrize(
    "text",
    [
        "2019,2020\n5,6\n7,8\n",
        "0,1,2\n5,6,1\n9,8,3\n",
        "Anna,Paris\nBob,Rome\n",
        "name,city\nAnna,Paris\n",
        "2019\n5\n",
        "a,x\nk1,x\nk1,y\n",
        "sim,price\nS-1,x\nS-2,y\nS-3,x\n",
        "colour,shop\nred,ab\ncolour,cd\n",
        "id,x\n1,2\n3,4\nid,x\n5,6\n",
    ],
)
def test_a_first_row_that_may_be_both_shows_both(tmp_path: Path, text: str) -> None:
    with pytest.raises(AmbiguousDialect) as caught:
        guess(tmp_path, text)

    assert [each.spec for each in caught.value.readings] == ["csv: {header: true}", "csv: {header: false}"]
    first, second = text.splitlines()[0].split(","), (each.shown for each in caught.value.readings)
    assert all(all(f"`{value}`" in shown for value in first) for shown in second)


def test_names_in_the_spec_tell_a_header(tmp_path: Path) -> None:
    text = "name,city\nAnna,Paris\nBob,Rome\n"
    assert guess(tmp_path, text, key=["name"]).header
    assert guess(tmp_path, text, columns={"city": "string"}).header
    assert guess(tmp_path, text, expected=["city"]).header


def test_a_stated_header_is_not_guessed(tmp_path: Path) -> None:
    assert guess(tmp_path, "2019,2020\n5,6\n", csv={"header": True}).header is True
    assert guess(tmp_path, "id,x\n5,6\n", csv={"header": False}).header is False


def test_a_first_row_that_all_files_share_is_a_header(tmp_path: Path) -> None:
    assert guess(tmp_path, "name,city\nAnna,Paris\n", "name,city\nBob,Rome\n").header


def test_files_with_and_without_a_header_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AmbiguousDialect):
        guess(tmp_path, "id,x\n1,2\n3,4\n", "5,5\n7,8\n")


# --- delimiter, quote, preamble, comment ---------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("id,x\n1,2\n3,4\n", ","),
        ("id;x\n1,5;2,5\n3,5;4\n", ";"),
        ("id\tx\n1\ta b\n3\tc d\n", "\t"),
        ("id|x\n1|2,3\n3|4\n", "|"),
        ("1 1 -0.5  7 \n1 2  0.5 7 \n2 1 0.1 7 \n", "blanks"),
        ("1   2 3.5\n10 20 4.5\n10 21 4.5\n", "blanks"),
        ("id,when\n1,2019-01-01 10:00\n2,2019-01-02 11:00\n", ","),
        ("id;note\n1;Hello, you\n2;well, yes\n", ";"),
        ('id,note\n1,"a;b"\n2,"c;d"\n', ","),
        ("1,000.0;\n1,000.0;\n", ";"),
        ('"-0,25"\t""\n"1234,5"\t""\n', "\t"),
        ("# of today\n1,5|\n1234,5|\n", "|"),
        ("k1;\nk2;\nk3;\n", ";"),
        ("k1\n" * 20 + "a,b\n", ";"),
        ('say "hi"|zy\nsay "hi"|zb-77\nsay "hi"|x\n', "|"),
        ('1\t{"a":1,"b":2}\n2\t{"a":3,"b":4}\n', "\t"),
        ('id\tpayload\n1\t{"a":1,"b":2}\n2\t{"a":3,"b":4}\n', "\t"),
        ("id,range\n1,a;b\n2,c;d\n", ","),
        ("Report 0\nReport 1\nz\ta\n1.5\tx|y\n2.5\ta;b\n3.5\ta,b\n", "\t"),
    ],
)
def test_the_delimiter_is_the_one_that_makes_a_table(tmp_path: Path, text: str, delimiter: str) -> None:
    assert guess(tmp_path, text).delimiter == delimiter


@pytest.mark.parametrize(
    "text",
    [
        "hello world\nfoo bar\nx y\n",
        "a,b;c\nd,e;f\ng,h;i\n",
        "a,b|\na,b|\na,b|\n",
        "a,b,c,d,e,f,g,h,i,j,k;\na,b,c,d,e,f,g,h,i,j,k;\n",
        'u v w x"|y\nu v w z"|k\na b c x"|m\n',
        "false\ta;b\n\ta;b\n\ta;b\n",
        "a;b,a;b\na;b,a;b\n",
        "Report 0\nReport 1\n,\n",
    ],
)
def test_two_delimiters_that_are_equally_good_are_both_shown(tmp_path: Path, text: str) -> None:
    with pytest.raises(AmbiguousDialect) as caught:
        guess(tmp_path, text)

    assert len({each.spec for each in caught.value.readings}) > 1
    assert all("delimiter" in each.spec for each in caught.value.readings)


@pytest.mark.parametrize(
    ("text", "quote", "escape"),
    [
        ('id,t\n1,"a,b"\n2,"c\nd"\n', '"', ""),
        ("id,t\n1,'a,b'\n2,'c'\n", "'", ""),
        ("id,t\n1,'a'\n2,'c'\n", "'", ""),
        ("id,t\n1,a\n2,'it''s'\n", "'", ""),
        ('id,t\n1,"say \\"a\\""\n2,"c"\n', '"', "\\"),
        ('id,t\n1,"C:\\"\n2,"c"\n', '"', ""),
        ("id,t\n1,it's\n2,that's\n", '"', ""),
        ("n,t\n" + "1,'ab'\n2,'cd'\n" * 9 + "3,'it\\'s'\n", "'", "\\"),
        ("id,t\n1,say \"hi\"\n2,'it''s'\n", "'", ""),
        ("yes\nx\n'two\nlines'\na,b\nk1\n'it''s'\n" + "yes\n" * 9, "'", ""),
    ],
)
def test_the_quote_is_the_one_that_makes_a_table(tmp_path: Path, text: str, quote: str, escape: str) -> None:
    found = guess(tmp_path, text)
    assert (found.quote, found.escape) == (quote, escape)


def test_a_few_quotes_that_do_not_close_are_no_reason_for_another_quote(tmp_path: Path) -> None:
    lines = [f'{n},"red"' if n % 12 else f'{n},"red' for n in range(1, 40)]
    assert guess(tmp_path, "\n".join(['"id","c"', *lines, ""])).quote == '"'
    assert guess(tmp_path, "\n".join(["id,c", *lines, ""])).quote == '"'
    assert guess(tmp_path, "id,c\n" + "".join(f"{n},\"'a'\"\n" for n in range(9))).quote == '"'


def test_a_quote_that_is_in_no_file_is_not_guessed(tmp_path: Path) -> None:
    assert guess(tmp_path, 'id,"c"\n' + "".join(f"{n},red\n" for n in range(30)) + '31,"red\n').quote == ""


def test_lines_before_the_table_are_left_out(tmp_path: Path) -> None:
    assert guess(tmp_path, "Report of today\n\nid;amount\n1;2\n3;4\n").skip == 1


def test_lines_of_another_width_before_data_without_header_are_shown(tmp_path: Path) -> None:
    with pytest.raises(AmbiguousDialect) as caught:
        guess(tmp_path, "1,1\n1,1,0.5\n2,1,0.7\n2,1,0.7\n")

    assert {each.spec for each in caught.value.readings} >= {"csv: {skip: 0, header: false}"}


def test_comments_are_found_and_colours_are_no_comments(tmp_path: Path) -> None:
    assert guess(tmp_path, "# of today\nid,x\n1,2\n# more\n3,4\n").comment == "#"
    assert guess(tmp_path, "colour,x\n#ff0000,2\n#00ff00,4\n").comment == ""


@pytest.mark.parametrize("row", ["#ff0000,2", "#1,2,", '"#1",2\n#5,6'])
def test_a_comment_with_the_fields_of_a_row_shows_both_readings(tmp_path: Path, row: str) -> None:
    text = f"colour,x\nred,1\n# of today\n{row}\nblue,4\n# more\n"
    with pytest.raises(AmbiguousDialect, match=r'line \d is a comment or a row.*comment: "".*comment: "#"'):
        guess(tmp_path, text)
    assert guess(tmp_path, text, csv={"comment": "#"}).comment == "#"


# --- encoding ------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_unicode_is_found(tmp_path: Path, encoding: str) -> None:
    found = guess(tmp_path, "id,name\n1,Müller\n2,Weiß\n".encode(encoding))
    assert (found.header, found.delimiter) == (True, ",")
    assert found.encoding == (encoding if encoding in ("utf-16-le", "utf-16-be") else "utf-8")


def test_another_encoding_is_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(AmbiguousDialect) as caught:
        guess(tmp_path, "id,name\n1,Müller\n2,Weiß\n".encode("cp1252"))

    assert caught.value.line == 2
    assert "`csv: {encoding: cp1252}` reads `1,Müller`" in str(caught.value)
    assert guess(tmp_path, "id,name\n1,Müller\n".encode("cp1252"), csv={"encoding": "cp1252"}).encoding == "cp1252"


def test_one_line_in_another_encoding_is_left_to_the_reader(tmp_path: Path) -> None:
    lines = ["id,name\n", *["1,Müller\n"] * 20]
    assert guess(tmp_path, "".join(lines).encode() + "1,Müller\n".encode("cp1252")).encoding == "utf-8"


# --- JSON ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "records"),
    [
        ('{"a": 1}\n{"a": 2}\n', "lines"),
        ('[{"a": 1}]', "array"),
        ('[\n{"a": 1}\n]\n', "array"),
        ('{"n": 1,\n"data": {"rows": [{"a": 1}]}}', "data.rows"),
        ('{"a": {"b": 1}}\n', "lines"),
    ],
)
def test_the_place_of_the_records_is_found(tmp_path: Path, text: str, records: str) -> None:
    assert guess(tmp_path, text, kind="json").records == records


def test_one_line_with_an_array_may_be_a_record_or_a_list_of_records(tmp_path: Path) -> None:
    with pytest.raises(AmbiguousDialect) as caught:
        guess(tmp_path, '{"data": [{"a": 1}]}\n', kind="json")

    assert {each.spec for each in caught.value.readings} == {"json: {records: lines}", "json: {records: data}"}


# --- the contract --------------------------------------------------------------------------------


def facts(folder: Path, text: str, **more: Any) -> dict[str, str]:
    return guess(folder, text, **more).facts()


def test_later_files_are_read_by_the_contract(tmp_path: Path) -> None:
    contract = facts(tmp_path, "id;x\n1;1\n2;4\n")
    later = guess(tmp_path, "id;x\n2019;2020\n", contract=contract, expected=["id", "x"])

    assert (later.delimiter, later.header) == (";", True)
    assert guess(tmp_path, "id,x\n", contract=contract, csv={"delimiter": ","}, expected=["id"]).delimiter == ","


@pytest.mark.parametrize(
    ("first", "later", "line", "expected", "found"),
    [
        ("id;x\n1;1\n2;4\n", "id,x\n3,4\n5,6\n", 1, 'fields with ";" between them', "one field, `id,x`"),
        ("id,x\n1,1\n2,4\n", "3,4\n5,6\n", 1, "a header with `id`, `x`", "`3`, `4`"),
        ("1,1\n2,4\n", "id,x\n3,4\n5,6\n", 1, "a row, as files have no header", "`id`, `x`"),
        ("id,x\n1,ä\n2,ö\n", "id,x\n1,\xe4\n".encode("cp1252"), 2, "text in utf-8", "bytes that are not of it"),
    ],
)
def test_a_later_file_that_does_not_fit_says_what_was_expected(
    tmp_path: Path, first: str, later: str | bytes, line: int, expected: str, found: str
) -> None:
    contract = facts(tmp_path, first)
    with pytest.raises(DialectChanged) as caught:
        guess(tmp_path, later, contract=contract, expected=["id", "x"] if "id" in first else ["column0", "column1"])

    error = caught.value
    assert (Path(error.file).name, error.line, error.expected, error.found) == ("0.csv", line, expected, found)
    assert "check PIPELINE --accept" in str(error)


def test_records_at_another_place_do_not_fit(tmp_path: Path) -> None:
    contract = facts(tmp_path, '{"a": 1}\n', kind="json")
    with pytest.raises(DialectChanged, match="an array"):
        guess(tmp_path, '[{"a": 1}]', kind="json", contract=contract)
