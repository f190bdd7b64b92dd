"""Entries are added to a pipeline file, and all other bytes stay."""

import pytest

from penstock.spec.sources import FilesSource
from penstock.spec.yaml_edit import add_entries, remove_entry, replace_entry
from penstock.spec.yaml_file import parse_pipeline

BLOCK = """\
name: p  # the name
sources:
  # the payments
  rows:
    kind: files
    path: "a/*.csv"   # where
    format: csv
    text: [zip, code]  # leading zeros

  other: {kind: files, path: b.csv, format: csv, csv: {delimiter: ";"}}
# the end
model: m@1
"""


def test_a_mapping_is_added_behind_the_last_entry_of_its_source() -> None:
    text = add_entries(BLOCK, ("sources", "rows", "csv"), {"delimiter": "\t", "header": True})

    assert text == BLOCK.replace("# leading zeros\n", '# leading zeros\n    csv: {delimiter: "\\t", header: true}\n')


def test_an_entry_is_added_to_a_flow_mapping_and_those_there_stay() -> None:
    text = add_entries(BLOCK, ("sources", "other", "csv"), {"delimiter": ",", "header": False})

    assert text == BLOCK.replace('{delimiter: ";"}', '{delimiter: ";", header: false}')


def test_a_key_that_is_replaced_keeps_its_comment() -> None:
    text = replace_entry(BLOCK, ("sources", "rows", "text"), "columns", {"zip": "string", "code": "string"})

    assert text == BLOCK.replace("text: [zip, code]", "columns: {zip: string, code: string}")


def test_a_key_that_is_removed_leaves_its_comment() -> None:
    text = remove_entry(BLOCK, ("sources", "rows", "text"))

    assert text == BLOCK.replace("    text: [zip, code]  # leading zeros\n", "    # leading zeros\n")


@pytest.mark.parametrize(
    "name", ["true", "007", "a: b", "a#b", "ü", "Air temperature [K]", "-x", "a\nb", "~", "1e5", "null", "2019"]
)
def test_any_name_is_read_as_it_was_written(name: str) -> None:
    text = add_entries(BLOCK, ("sources", "rows", "columns"), {name: "string"})

    source = parse_pipeline((text + "destination: {table: t}\n").encode(), "p.yaml").sources["rows"]
    assert isinstance(source, FilesSource)
    assert source.columns == {name: "string"}


def test_many_columns_get_a_line_each_and_line_ends_are_kept() -> None:
    columns = {f"column_number_{n}": "number" for n in range(9)}
    text = add_entries(BLOCK.replace("\n", "\r\n"), ("sources", "rows", "columns"), columns)

    assert "\r\n      column_number_8: number\r\n\r\n  other:" in text
    assert "\n" not in text.replace("\r\n", "")


def test_an_entry_is_added_behind_a_text_of_several_lines() -> None:
    text = add_entries("a:\n  b:\n    q: |\n      x\n      y\n\n  c: 1\n", ("a", "b", "csv"), {"skip": 1})

    assert text == "a:\n  b:\n    q: |\n      x\n      y\n    csv: {skip: 1}\n\n  c: 1\n"
