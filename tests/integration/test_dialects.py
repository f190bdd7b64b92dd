"""What is guessed of text files is shown and kept: by the spec with `check --write`, else by the contract."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

from typer.testing import CliRunner

from penstock.cli.app import app
from penstock.interval import DataInterval
from penstock.spec.pipeline import Pipeline
from penstock.spec.sources import FilesSource
from penstock.spec.yaml_file import load_pipeline, parse_pipeline
from penstock.tasks.process_resources import connector
from tests.driver import Driver
from tests.shop import Place, payments

DAILY = """\
name: card-risk
interval: {{column: created_at, grain: 1d, start: 2026-01-01T00:00:00Z}}
sources:
  payments:
    kind: files  # by the bank
    path: "{folder}/{{interval_start:%Y-%m-%d}}.csv"
    format: csv
    key: [payment_id]
    max_malformed: 0.4
model: card-risk@champion
destination: {{connection: warehouse, table: card_risk_scores, keep: [amount, country]}}
"""
COLUMNS = ("payment_id", "amount", "items", "country", "first")


def write_day(folder: Path, day: int, delimiter: str = ";", header: bool = True, rows: int = 3) -> Path:
    """Write a day of payments with decimal commas."""
    lines = [delimiter.join((*COLUMNS, "created_at"))] if header else []
    for number, row in enumerate(payments(days=1, a_day=rows).select(list(COLUMNS)).to_pylist()):
        values = row | {"payment_id": 10 * day + number, "created_at": f"2026-01-{day:02} 10:00"}
        lines.append(delimiter.join(str(value).replace(".", ",") for value in values.values()))
    file = folder / f"2026-01-{day:02}.csv"
    file.write_text("\n".join([*lines, ""]))
    return file


def make(make_place: Callable[..., Place], text: str = DAILY) -> Place:
    place = make_place(days=1, a_day=50)
    place.spec.write_text(text.format(folder=place.folder))
    return place


def run(place: Place, day: int) -> list[str]:
    """Run the intervals that are due on a day."""
    driver = Driver(load_pipeline(place.spec), connector().open, place.registry)
    return driver.run(datetime(2026, 1, day, tzinfo=UTC))


def check(place: Place, *options: str) -> tuple[int, str]:
    day = ("--start", "2026-01-01", "--end", "2026-01-02")
    found = CliRunner().invoke(app, ["check", str(place.spec), *day, *options])
    return found.exit_code, found.stdout


def test_check_shows_the_guess_as_the_spec_takes_it_and_write_puts_it_there(make_place: Callable[..., Place]) -> None:
    place = make(make_place)
    write_day(place.folder, 1)

    code, shown = check(place)
    assert code == 0, shown
    assert (
        'guessed, `csv: {encoding: utf-8, delimiter: ";", quote: "\\"", header: true, null: [""], decimal: ","}`'
        in shown
    )
    assert (
        "guessed, `columns: {payment_id: number, amount: number, items: number, country: string, first: bool" in shown
    )

    before = place.spec.read_text()
    code, shown = check(place, "--write")
    assert (code, "is written: source `payments`" in shown) == (0, True)
    written = place.spec.read_text()
    assert [line for line in before.splitlines() if line not in written.splitlines()] == []

    code, shown = check(place, "--write")
    assert (code, "guessed" in shown, "has everything already" in shown) == (0, False, True)
    source = load_pipeline(place.spec).primary_source
    assert isinstance(source, FilesSource)
    assert (source.csv.delimiter, source.csv.decimal, source.columns["amount"]) == (";", ",", "number")
    assert "publish" in run(place, 2)


def test_a_file_of_another_dialect_halts_until_it_is_accepted(make_place: Callable[..., Place]) -> None:
    place = make(make_place)
    write_day(place.folder, 1)
    assert "publish" in run(place, 2)

    file = write_day(place.folder, 2, delimiter="\t")
    [halted] = [step for step in run(place, 3) if "halted" in step]
    assert f"{file} line 1 has one field, `payment_id" in halted
    assert 'instead of fields with ";" between them' in halted
    assert "penstock check card-risk --accept" in halted

    day = ["--start", "2026-01-02", "--end", "2026-01-03"]
    accepted = CliRunner().invoke(app, ["check", str(place.spec), *day, "--accept"])
    assert '`csv.delimiter` was ";" and is "\\t" now; accepted' in accepted.stdout
    assert "publish" in run(place, 3)


def test_accept_finds_the_newest_interval_with_a_file(make_place: Callable[..., Place]) -> None:
    place = make(make_place)
    write_day(place.folder, 1)
    assert "publish" in run(place, 2)
    write_day(place.folder, 2, delimiter="\t")

    accepted = CliRunner().invoke(app, ["check", str(place.spec), "--accept"])  # the newest interval has no file

    assert '`csv.delimiter` was ";" and is "\\t" now; accepted' in accepted.stdout
    assert "publish" in run(place, 3)


def test_a_file_that_lost_its_header_halts(make_place: Callable[..., Place]) -> None:
    place = make(make_place)
    write_day(place.folder, 1)
    assert "publish" in run(place, 2)

    file = write_day(place.folder, 2, header=False)
    [halted] = [step for step in run(place, 3) if "halted" in step]
    assert f"{file} line 1 has `20`," in halted
    assert "instead of a header with `amount`," in halted


def test_what_cannot_be_known_halts_the_run_and_the_check_once(make_place: Callable[..., Place]) -> None:
    place = make(make_place)
    file = place.folder / "2026-01-01.csv"
    file.write_bytes("payment_id;created_at;country\n1;2026-01-01 10:00;Österreich\n".encode("cp1252"))

    assert any("halted" in step and "`csv: {encoding: cp1252}` reads" in step for step in run(place, 2))
    code, shown = check(place)
    assert (code, shown.count("`csv: {encoding: cp1252}` reads `")) == (1, 1)


def test_a_contract_of_0_1_without_a_dialect_keeps_its_names(make_place: Callable[..., Place]) -> None:
    from penstock.ledger.migrations import migrate
    from penstock.ledger.schema_contracts import record_columns, source_definition
    from penstock.sources import open_source

    text = DAILY.replace("key: [payment_id]", "key: [column00]").replace("column: created_at", "column: column11")
    place = make(make_place, text)
    pipeline = parse_pipeline(place.spec.read_bytes(), "x")
    source = pipeline.primary_source
    assert isinstance(source, FilesSource)
    migrate(place.warehouse)
    names = [f"column{n:02}" for n in range(12)]
    contract = dict.fromkeys(names[:11], "number") | {"column11": "date iso"}
    record_columns(place.warehouse, "card-risk", "payments", source_definition(source), contract)
    (place.folder / "2026-01-01.csv").write_text(
        "".join(",".join(["7", *["1.5"] * 10, "2026-01-01"]) + "\n" for _ in range(3))
    )

    day = DataInterval(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))
    table = open_source(pipeline, "payments", connector()).read(day)

    assert table.column_names[:12] == names


def read_rows(place: Place, folder: Path, text: str, **source: object) -> list[dict[str, object]]:
    """Read one CSV file as a source would."""
    from penstock.sources import open_source

    (folder / "a.csv").write_text(text)
    rows = {"kind": "files", "path": str(folder / "a.csv"), "format": "csv", "max_malformed": 0.9} | source
    spec = {"name": "p", "sources": {"rows": rows}, "model": "m@1", "destination": {"table": "t"}}
    table = open_source(Pipeline.model_validate(spec), "rows", connector()).read(None)
    return table.drop_columns(["_row_id"]).to_pylist()


def test_numbers_are_read_by_the_guessed_marks(make_place: Callable[..., Place], tmp_path: Path) -> None:
    rows = read_rows(make(make_place), tmp_path, "a;b;c\n+5;1.250,5;007\n-3;2,75;1E5\n?;;x\n")

    assert rows == [
        {"a": 5, "b": 1250.5, "c": "007"},
        {"a": -3, "b": 2.75, "c": "1E5"},
        {"a": None, "b": None, "c": "x"},
    ]


def test_a_stated_format_is_that_of_declared_and_guessed_dates(
    make_place: Callable[..., Place], tmp_path: Path
) -> None:
    text = "a,b,c\n03/01/2026,03/01/2026,1\n04/02/2026,04/02/2026,2\n"
    csv = {"date_format": "%m/%d/%Y"}
    rows = read_rows(make(make_place), tmp_path, text, csv=csv, columns={"a": "date"})

    assert [(row["a"], row["b"]) for row in rows] == [(date(2026, 3, 1),) * 2, (date(2026, 4, 2),) * 2]


def test_the_hour_that_clocks_show_twice_is_refused(make_place: Callable[..., Place], tmp_path: Path) -> None:
    text = "t,x\n2026-10-25 01:30,1\n2026-10-25 02:30,2\n2026-03-29 02:30,3\n2026-10-25 03:30,4\n"
    rows = read_rows(make(make_place), tmp_path, text, timezone="Europe/Berlin")

    assert [(row["x"], row["t"]) for row in rows] == [
        (1, datetime(2026, 10, 24, 23, 30, tzinfo=UTC)),
        (4, datetime(2026, 10, 25, 2, 30, tzinfo=UTC)),
    ]
