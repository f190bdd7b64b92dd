"""Guesses go into the pipeline file, and everything else stays."""

from pathlib import Path

from penstock.cli.check.write_spec import Guess, write_guesses
from penstock.sources.text.dialect import Dialect
from penstock.spec.sources import FilesSource
from penstock.spec.yaml_file import load_pipeline

SPEC = """\
# Which rows are risky
name: p
sources:
  rows:
    kind: files  # from the bank
    path: a/*.csv
    format: csv
    key: [id]
    text: [zip]  # leading zeros
    csv: {delimiter: ";"}

model: m@1  # the champion
destination: {table: t}
"""
GUESS = Guess(
    Dialect("csv", delimiter=";", null=("", "NA"), decimal=","),
    {"id": "number", "zip": "text", "when": "timestamp %d.%m.%Y", "empty": "nothing", "b": "bool"},
)


def test_a_guess_is_written_and_read_again(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(SPEC)

    assert write_guesses(file, {"rows": GUESS}) == ("rows",)
    source = load_pipeline(file).sources["rows"]

    assert isinstance(source, FilesSource)
    assert (source.csv.delimiter, source.csv.decimal, source.csv.null, source.csv.header) == (
        ";",
        ",",
        ("", "NA"),
        True,
    )
    assert (source.text, source.columns["zip"], source.columns["b"]) == ((), "string", "bool")
    assert file.read_text() == SPEC.replace(
        "    text: [zip]  # leading zeros\n",
        "    columns: {zip: string, id: number, when: {type: timestamp, "
        'format: "%d.%m.%Y"}, b: bool}  # leading zeros\n',
    ).replace(
        '{delimiter: ";"}',
        '{delimiter: ";", encoding: utf-8, quote: "\\"", header: true, null: ["", NA], decimal: ","}',
    )


def test_a_second_write_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(SPEC)
    write_guesses(file, {"rows": GUESS})
    written = file.read_text()

    assert write_guesses(file, {"rows": GUESS}) == ()
    assert file.read_text() == written


def test_text_is_moved_to_columns_without_a_guess(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(SPEC.replace("    key: [id]\n", "    key: [id]\n    columns: {id: int}\n"))

    assert write_guesses(file, {}) == ("rows",)
    assert "columns: {id: int, zip: string}\n    # leading zeros\n    csv:" in file.read_text()
