"""Types of the columns of files: declared, guessed once, then kept. A value that does not fit is named."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from penstock.cli.app import app
from penstock.database.connections import Connector, Database, open_database
from penstock.errors import AmbiguousDate, BrokenFile, MalformedRows, UnfitValue, UnreadableTime
from penstock.interval import DataInterval
from penstock.ledger.migrations import migrate
from penstock.ledger.schema_contracts import read_contracts, record_columns, source_definition
from penstock.run.schema_contract import compare_sources
from penstock.sources import SourceReader, open_source
from penstock.spec.pipeline import Pipeline
from penstock.spec.sources import FilesSource
from penstock.spec.yaml_file import parse_pipeline
from penstock.tasks.process_resources import connector
from tests.driver import Driver
from tests.shop import Place, payments

START = datetime(2026, 1, 3, tzinfo=UTC)
DAY = DataInterval(START, START + timedelta(days=1))
US = {"type": "timestamp", "format": "%m/%d/%Y"}


@pytest.fixture
def warehouse(use_settings: Callable[..., Any], database_url: Callable[[str, str], str]) -> Database:
    return open_database(use_settings(warehouse=database_url("sqlite", "warehouse")), "warehouse")


def pipeline(folder: Path, kind: str, column: str | None = None, **more: Any) -> Pipeline:
    source = {"kind": "files", "path": f"{folder}/*.{kind}", "format": kind, "key": ["id"]} | more
    interval = {"interval": {"column": column, "grain": "1d", "start": "2026-01-01"}} if column else {}
    spec = {"name": "p", "sources": {"rows": source}, "model": "m@1", "destination": {"table": "t"}}
    return Pipeline.model_validate(spec | interval)


def reader(spec: Pipeline, warehouse: Database) -> SourceReader:
    return open_source(spec, "rows", Connector(lambda _: warehouse, ()))


def seen(spec: Pipeline, warehouse: Database) -> dict[str, str]:
    """Return the columns as a run would record them."""
    [compared] = compare_sources(
        spec, None, Connector(lambda _: warehouse, ()), (), read_contracts(warehouse, spec.name)
    )
    return compared.columns


def keep(spec: Pipeline, warehouse: Database, columns: dict[str, str]) -> None:
    """Make columns the contract, as a published run would."""
    migrate(warehouse)
    source = spec.primary_source
    assert isinstance(source, FilesSource)
    record_columns(warehouse, spec.name, "rows", source_definition(source), columns)


def write(folder: Path, kind: str, rows: list[dict[str, Any]], name: str = "a") -> None:
    """Write rows as CSV, or as JSON with every value as text."""
    file = folder / f"{name}.{kind}"
    if kind == "json":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        lines = [",".join("" if value is None else f'"{value}"' for value in row.values()) for row in rows]
        file.write_text("\n".join([",".join(rows[0]), *lines]) + "\n")


# --- declared types ------------------------------------------------------------------------------

EACH_TYPE = [
    ("string", "007", "007"),
    ("string", "12345678901234567890", "12345678901234567890"),
    ("int", "9007199254740993", 9007199254740993),
    ("int", " -5 ", -5),
    ("float", "1", 1.0),
    ("float", "1.5e3", 1500.0),
    ("bool", "yes", True),
    ("bool", "0", False),
    ("date", "2026-01-03", date(2026, 1, 3)),
    ("timestamp", "2026-01-03", START),
    ("timestamp", "2026-01-03T02:00+02:00", START),
    ({"type": "date", "format": "%d.%m.%y"}, "03.01.26", date(2026, 1, 3)),
    ({"type": "timestamp", "format": "%m/%d/%Y %I:%M %p"}, "1/3/2026 12:00 AM", START),
    ({"type": "timestamp", "format": "%d-%b-%Y %H:%M%z"}, "03-Jan-2026 01:00+01:00", START),
    ({"type": "timestamp", "format": "%Y%m%d"}, "20260103", START),
    ({"type": "timestamp", "format": "epoch_s"}, "1767398400.5", START + timedelta(milliseconds=500)),
    ({"type": "timestamp", "format": "epoch_ms"}, "1767398400001", START + timedelta(milliseconds=1)),
    ({"type": "timestamp", "format": "epoch_us"}, "1767398400000001", START + timedelta(microseconds=1)),
    ({"type": "timestamp", "format": "epoch_ns"}, "1767398400000001999", START + timedelta(microseconds=1)),
]


@pytest.mark.parametrize("kind", ["csv", "json"])
@pytest.mark.parametrize(("declared", "text", "value"), EACH_TYPE)
def test_a_declared_type_is_what_a_column_has(
    tmp_path: Path, warehouse: Database, kind: str, declared: Any, text: str, value: Any
) -> None:
    write(tmp_path, kind, [{"id": 1, "x": text}, {"id": 2, "x": None}])

    table = reader(pipeline(tmp_path, kind, columns={"x": declared}), warehouse).read(None)

    assert table.sort_by("id")["x"].to_pylist() == [value, None]


@pytest.mark.parametrize("kind", ["csv", "json"])
@pytest.mark.parametrize(
    ("declared", "text"),
    [
        ("int", "2.75"),
        ("int", "0x1F"),
        ("int", "99999999999999999999"),
        ("float", "1,5"),
        ("bool", "maybe"),
        ("date", "03/01/2026"),
        ("date", "2026-01-03 10:00"),
        ("date", "2026-02-30"),
        ("timestamp", "0000-00-00"),
        ("timestamp", "infinity"),
        (US, "03-01-2026"),
        (US, "13/01/2026"),
        (US, "01/03/26"),
        (US, "infinity"),
        ({"type": "timestamp", "format": "epoch_s"}, "1767398400000"),
        ({"type": "timestamp", "format": "epoch_s"}, "NA"),
    ],
)
def test_values_that_do_not_fit_are_named_with_file_and_line_if_they_are_too_many(
    tmp_path: Path, warehouse: Database, kind: str, declared: Any, text: str
) -> None:
    good = EACH_TYPE[[each[0] for each in EACH_TYPE].index(declared)][1] if isinstance(declared, str) else None
    write(tmp_path, kind, [{"id": 1, "x": good}, {"id": 2, "x": None}], "a")
    write(tmp_path, kind, [{"id": 3, "x": good}, {"id": 4, "x": text}, {"id": 5, "x": text}], "b")

    with pytest.raises(MalformedRows) as caught:
        reader(pipeline(tmp_path, kind, columns={"x": declared}), warehouse).read(None)

    error, line = caught.value, 3 if kind == "csv" else 2
    assert (Path(error.file).name, error.line, error.column, error.value) == (f"b.{kind}", line, "x", text)
    assert (error.refused, error.rows) == (2, 5)
    assert "x: string" in str(error)


def test_a_private_value_is_not_in_the_error(tmp_path: Path, warehouse: Database) -> None:
    write(tmp_path, "csv", [{"id": 1, "x": "secret"}])
    spec = pipeline(tmp_path, "csv", columns={"x": "int"}, private={"x": "hash"})
    with pytest.raises(MalformedRows) as caught:
        reader(spec, warehouse).read(None)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.column == "x"

    write(tmp_path, "csv", [{"id": 1, "x": "03/01/2026"}])
    with pytest.raises(AmbiguousDate) as ambiguous:
        reader(pipeline(tmp_path, "csv", private={"x": "hash"}), warehouse).read(None)
    assert "03/01/2026" not in str(ambiguous.value)


def test_a_parquet_column_is_converted_to_its_declared_type(tmp_path: Path, warehouse: Database) -> None:
    table = pa.table(
        {"id": [1, 2], "at": [1767398400000, None], "day": ["01/03/2026", None], "code": [7, 8], "n": [1, 2]}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    columns = {"at": {"type": "timestamp", "format": "epoch_ms"}, "day": US, "code": "string", "n": "int"}

    source = reader(pipeline(tmp_path, "parquet", "at", columns=columns), warehouse)

    [partition] = source.plan(DAY, 10).partitions
    [row] = source.read(DAY, partition).to_pylist()
    assert row == {"id": 1, "at": START, "day": START, "code": "7", "n": 1}


def test_a_value_of_a_parquet_file_that_does_not_fit_its_declared_type_is_named(
    tmp_path: Path, warehouse: Database
) -> None:
    pq.write_table(pa.table({"id": [1, 2], "x": ["5", "many"]}), tmp_path / "a.parquet")

    with pytest.raises(UnfitValue) as caught:
        reader(pipeline(tmp_path, "parquet", columns={"x": "int"}), warehouse).read(None)

    error = caught.value
    assert (Path(error.file).name, error.row, error.column, error.value) == ("a.parquet", 2, "x", "many")


@pytest.mark.parametrize(
    ("values", "remedy"),
    [
        ([1767398400], "epoch_s"),
        ([1767398400000], "epoch_ms"),
        ([1767398400000000000], "epoch_ns"),
        ([20260103], "%Y%m%d"),
        (["Jan 3"], "format"),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_an_event_time_that_is_no_time_is_refused_with_the_way_to_declare_it(
    tmp_path: Path, warehouse: Database, kind: str, values: list[Any], remedy: str
) -> None:
    rows = [{"id": n, "at": value} for n, value in enumerate(values)]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    else:
        write(tmp_path, kind, rows)

    with pytest.raises(UnreadableTime, match=r"columns: \{at: \{type: timestamp") as caught:
        reader(pipeline(tmp_path, kind, "at"), warehouse).plan(DAY, 10)

    assert remedy in str(caught.value)
    assert str(values[0]) in str(caught.value)
    if not isinstance(values[0], str):
        columns = {"at": {"type": "timestamp", "format": remedy}}
        assert reader(pipeline(tmp_path, kind, "at", columns=columns), warehouse).plan(DAY, 10).rows == 1


# --- guesses -------------------------------------------------------------------------------------

AMBIGUOUS = [{"id": n, "at": f"{n:02}/01/2026"} for n in (1, 2, 3)]


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_dates_that_can_be_read_in_two_ways_halt_and_name_the_option(
    tmp_path: Path, warehouse: Database, kind: str
) -> None:
    write(tmp_path, kind, AMBIGUOUS)
    uses: list[Callable[[SourceReader], Any]] = [lambda s: s.plan(DAY, 10), lambda s: s.read(None, limit=5)]
    for use in uses:
        with pytest.raises(AmbiguousDate, match=r"`%d/%m/%Y` or `%m/%d/%Y`.*`columns:`"):
            use(reader(pipeline(tmp_path, kind, "at"), warehouse))


@pytest.mark.parametrize("kind", ["csv", "json"])
@pytest.mark.parametrize(("format_", "days"), [("%d/%m/%Y", [1, 2, 3]), ("%m/%d/%Y", [1, 1, 1])])
def test_a_declared_format_reads_ambiguous_dates_as_it_says(
    tmp_path: Path, warehouse: Database, kind: str, format_: str, days: list[int]
) -> None:
    write(tmp_path, kind, AMBIGUOUS)
    declared = {"at": {"type": "timestamp", "format": format_}}
    table = reader(pipeline(tmp_path, kind, "at", columns=declared), warehouse).read(None)
    times: list[Any] = table.sort_by("id")["at"].to_pylist()
    assert [t.day for t in times] == days


def test_one_date_beyond_the_twelfth_shows_the_format_for_all_files(tmp_path: Path, warehouse: Database) -> None:
    write(tmp_path, "csv", AMBIGUOUS, "a")
    write(tmp_path, "csv", [{"id": 4, "at": "01/13/2026"}], "b")
    spec = pipeline(tmp_path, "csv", "at")

    times: list[Any] = reader(spec, warehouse).read(None).sort_by("id")["at"].to_pylist()

    assert [(t.month, t.day) for t in times] == [(1, 1), (2, 1), (3, 1), (1, 13)]
    assert seen(spec, warehouse) == {"id": "number", "at": "date %m/%d/%Y"}


def test_files_whose_dates_contradict_each_other_are_text(tmp_path: Path, warehouse: Database) -> None:
    write(tmp_path, "csv", [{"id": 1, "at": "13/01/2026"}], "a")
    write(tmp_path, "csv", [{"id": 2, "at": "01/13/2026"}], "b")
    with pytest.raises(UnreadableTime, match="is text, as"):
        reader(pipeline(tmp_path, "csv", "at"), warehouse).plan(DAY, 10)
    assert reader(pipeline(tmp_path, "csv"), warehouse).read(None)["at"].to_pylist() == ["13/01/2026", "01/13/2026"]


def test_two_digit_years_have_three_readings(tmp_path: Path, warehouse: Database) -> None:
    write(tmp_path, "csv", [{"id": 1, "at": "01-02-03 10:00"}])
    with pytest.raises(AmbiguousDate) as caught:
        reader(pipeline(tmp_path, "csv", "at"), warehouse).plan(DAY, 10)
    assert caught.value.formats == ("%d-%m-%y %H:%M", "%m-%d-%y %H:%M", "%y-%m-%d %H:%M")


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_iso_times_of_several_styles_are_times(tmp_path: Path, warehouse: Database, kind: str) -> None:
    written = ["2026-01-03", "2026-01-03 10:00", "2026-01-03T23:59:59.999Z", "2026-01-04T00:30+01:00", "2026-01-04"]
    write(tmp_path, kind, [{"id": n, "at": text} for n, text in enumerate(written)])

    source = reader(pipeline(tmp_path, kind, "at"), warehouse)

    ids = [n for p in source.plan(DAY, 2).partitions for n in source.read(DAY, p)["id"].to_pylist()]
    assert sorted(map(str, ids)) == ["0", "1", "2", "3"]


def test_json_types_hold_below_any_sample(tmp_path: Path, warehouse: Database) -> None:
    rows = [{"id": 1, "x": 1, "b": True}] * 21_000 + [{"id": 2, "x": 2.75, "b": 2, "late": "here"}]
    write(tmp_path, "json", rows)

    last = reader(pipeline(tmp_path, "json"), warehouse).read(None).sort_by("id").to_pylist()[-1]

    assert last == {"id": 2, "x": 2.75, "b": "2", "late": "here"}


def test_mixed_json_values_are_their_text_and_nested_ones_sql_values(tmp_path: Path, warehouse: Database) -> None:
    write(tmp_path, "json", [{"id": 1, "o": {"a": 1}}, {"id": "2", "o": None}])
    assert reader(pipeline(tmp_path, "json"), warehouse).read(None).to_pylist() == [
        {"id": "1", "o": {"a": 1}},
        {"id": "2", "o": None},
    ]


# --- the contract --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "json"])
@pytest.mark.parametrize(
    ("kept", "text", "value"),
    [
        ("timestamp %m/%d/%Y", "01/03/2026", START),
        ("date %d/%m/%Y", "03/01/2026", date(2026, 1, 3)),
        ("timestamp iso", "2026-01-03", START),
        ("text", "007", "007"),
        ("text", "2026-01-03", "2026-01-03"),
        ("text", "10:00", "10:00"),
        ("number", None, None),
        ("number", "1", 1),
        ("bool", "true", True),
        ("int", "5", 5),
    ],
)
def test_later_files_are_read_by_the_types_of_the_contract(
    tmp_path: Path, warehouse: Database, kind: str, kept: str, text: str | None, value: Any
) -> None:
    write(tmp_path, kind, [{"id": 1, "x": text}])
    spec = pipeline(tmp_path, kind)
    keep(spec, warehouse, {"id": "number", "x": kept})

    assert reader(spec, warehouse).read(None)["x"].to_pylist() == [value]
    assert seen(spec, warehouse) == {"id": "number", "x": kept}


@pytest.mark.parametrize("kind", ["csv", "json"])
@pytest.mark.parametrize(
    ("kept", "text"),
    [("number", "NA"), ("number", "2026-01-03"), ("timestamp %m/%d/%Y", "13/01/2026"), ("bool", "2"), ("int", "1.5")],
)
def test_a_value_that_breaks_the_contract_is_named(
    tmp_path: Path, warehouse: Database, kind: str, kept: str, text: str
) -> None:
    write(tmp_path, kind, [{"id": 1, "x": None}, {"id": 2, "x": text}])
    spec = pipeline(tmp_path, kind)
    keep(spec, warehouse, {"id": "number", "x": kept})

    line = 3 if kind == "csv" else 2
    with pytest.raises(MalformedRows, match=f"line {line} of .*a.{kind}: `x` is {kept}, and the file has `{text}`"):
        reader(spec, warehouse).read(None)
    [compared] = compare_sources(
        spec, None, Connector(lambda _: warehouse, ()), (), read_contracts(warehouse, spec.name)
    )
    [difference] = compared.halts
    assert f"`x` was {kept}, and line {line} of" in difference.text
    assert "1 of 2 rows cannot be read" in difference.text


def test_a_declared_type_replaces_that_of_the_contract_and_only_it(tmp_path: Path, warehouse: Database) -> None:
    write(tmp_path, "csv", [{"id": 1, "x": "7", "y": "01/03/2026"}])
    keep(pipeline(tmp_path, "csv"), warehouse, {"id": "number", "x": "number", "y": "date %m/%d/%Y"})
    spec = pipeline(tmp_path, "csv", columns={"x": "string"})

    [row] = reader(spec, warehouse).read(None).to_pylist()
    [compared] = compare_sources(
        spec, None, Connector(lambda _: warehouse, ()), ("x",), read_contracts(warehouse, spec.name)
    )

    assert row == {"id": 1, "x": "7", "y": date(2026, 1, 3)}
    assert ([d.text for d in compared.differences], compared.halts) == (["`x` was number and is text now"], ())


def test_a_column_without_a_value_stays_open_until_one_shows(tmp_path: Path, warehouse: Database) -> None:
    write(tmp_path, "csv", [{"id": 1, "x": None}])
    spec = pipeline(tmp_path, "csv")
    assert seen(spec, warehouse) == {"id": "number", "x": "nothing"}
    keep(spec, warehouse, {"id": "number", "x": "nothing"})
    write(tmp_path, "csv", [{"id": 1, "x": 5}])

    [compared] = compare_sources(
        spec, None, Connector(lambda _: warehouse, ()), (), read_contracts(warehouse, spec.name)
    )

    assert (compared.columns, compared.is_new, compared.differences) == ({"id": "number", "x": "number"}, True, ())


def test_a_contract_of_0_1_gets_the_format_of_its_times(tmp_path: Path, warehouse: Database) -> None:
    spec = pipeline(tmp_path, "csv")
    keep(spec, warehouse, {"id": "number", "x": "date"})
    write(tmp_path, "csv", [{"id": 1, "x": "01/13/2026"}])
    [compared] = compare_sources(
        spec, None, Connector(lambda _: warehouse, ()), ("x",), read_contracts(warehouse, spec.name)
    )
    assert (compared.columns["x"], compared.is_new, compared.differences) == ("date %m/%d/%Y", True, ())

    write(tmp_path, "csv", [{"id": 1, "x": "01/12/2026"}])
    with pytest.raises(AmbiguousDate):
        reader(spec, warehouse).read(None)


def test_the_fingerprint_of_a_source_is_that_of_0_1() -> None:
    source = FilesSource(kind="files", path="x.csv", format="csv", columns={"a": "int"})
    assert source_definition(source) == "9ea670f12905ec18149010acbc261829e068b29c5da4c09ae99ff24002a72504"


# --- files without rows --------------------------------------------------------------------------


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize(("kind", "empty"), [("csv", "id,at,x\n"), ("csv", "id,at,x"), ("json", "")])
def test_a_file_without_rows_is_zero_rows(
    tmp_path: Path, warehouse: Database, kind: str, empty: str, beside: bool
) -> None:
    (tmp_path / f"empty.{kind}").write_text(empty)
    if beside:
        write(tmp_path, kind, [{"id": 1, "at": "2026-01-03T10:00:00Z", "x": 2.5}], "zz")
    source = reader(pipeline(tmp_path, kind, "at"), warehouse)

    assert source.plan(DAY, 10).rows == int(beside)
    table = source.read(DAY)
    assert (table.num_rows, source.count_without_time(DAY)) == (int(beside), 0)
    assert table.schema.field("at").type == pa.timestamp("us", "UTC")


def test_an_empty_csv_is_broken_alone_and_adds_no_column_beside_others(tmp_path: Path, warehouse: Database) -> None:
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(BrokenFile, match="has no header"):
        reader(pipeline(tmp_path, "csv"), warehouse).read(None)
    write(tmp_path, "csv", [{"id": 1}])
    assert reader(pipeline(tmp_path, "csv"), warehouse).read(None).to_pylist() == [{"id": 1}]


def test_a_source_without_rows_fits_any_features_query(tmp_path: Path, warehouse: Database) -> None:
    from penstock.run.features import build_features

    (tmp_path / "a.csv").write_text("id,amount,at\n")
    query = (
        """select r.id, sum(s.amount) as total, max(s.at) as last from rows r left join sales s using (id) group by 1"""
    )
    spec = pipeline(tmp_path, "csv").model_copy(update={"features": query})
    sales = open_source(pipeline(tmp_path, "csv"), "rows", Connector(lambda _: warehouse, ())).read(None)

    features = build_features(spec, "x", pa.table({"id": [1, 2]}), {"sales": sales}, 10)

    assert features.sort_by("id")["total"].to_pylist() == [None, None]


# --- runs and commands ---------------------------------------------------------------------------

DAILY = """
name: card-risk
interval: {{column: created_at, grain: 1d, start: 2026-01-01T00:00:00Z}}
sources:
  payments:
    kind: files
    path: {folder}/*.csv
    format: csv
    key: [payment_id]
    columns: {columns}
model: card-risk@champion
destination: {{connection: warehouse, table: card_risk_scores, keep: [amount, country]}}
"""
COLUMNS = ("payment_id", "amount", "items", "country", "first")


def write_days(folder: Path, format_: str, *days: int) -> None:
    """Write one file of payments with their dates in a format."""
    table = payments(days=1, a_day=len(days)).select(list(COLUMNS)).to_pylist()
    rows = [
        row | {"created_at": f"{date(2026, 1, day):{format_}}", "payment_id": day}
        for row, day in zip(table, days, strict=True)
    ]
    write(folder, "csv", rows, f"{days[0]:02}")


def dates_read(place: Place) -> dict[int, str]:
    """Return the start of the interval that each live row was scored in."""
    query = "select payment_id, interval_start from card_risk_scores"
    with place.warehouse.reading() as connection:
        return {row[0]: str(row[1])[:10] for row in connection.exec_driver_sql(query)}


def test_ambiguous_dates_halt_a_run_and_once_published_their_format_is_kept(make_place: Callable[..., Place]) -> None:
    place = make_place(days=1, a_day=50)
    folder = place.folder / "days"
    folder.mkdir()
    write_days(folder, "%m/%d/%Y", 2, 3)

    def run(columns: str, day: int) -> list[str]:
        text = DAILY.format(folder=folder, columns=columns)
        place.spec.write_text(text)
        spec = parse_pipeline(text.encode(), "x")
        return Driver(spec, connector().open, place.registry).run(datetime(2026, 1, day, tzinfo=UTC), "backfill")

    halted = run("{}", 4)
    assert any("halted" in step and "`%d/%m/%Y` or `%m/%d/%Y`" in step for step in halted)
    checked = CliRunner().invoke(app, ["check", str(place.spec)])
    assert (checked.exit_code, "`%d/%m/%Y` or `%m/%d/%Y`" in checked.stdout) == (1, True)

    run('{created_at: {type: timestamp, format: "%m/%d/%Y"}}', 4)
    assert dates_read(place) == {2: "2026-01-02", 3: "2026-01-03"}

    write_days(folder, "%m/%d/%Y", 4, 5)
    run("{}", 6)
    assert dates_read(place) == {n: f"2026-01-0{n}" for n in (2, 3, 4, 5)}

    (folder / "04.csv").unlink()
    write_days(folder, "%d/%m/%Y", 13)
    broken = run("{}", 14)
    assert any("halted" in step and "line 2 of" in step and "has `13/01/2026`" in step for step in broken)
    checked = CliRunner().invoke(app, ["check", str(place.spec)])
    assert (checked.exit_code, "has `13/01/2026`" in checked.stdout) == (1, True)


def test_accepted_files_are_read_as_they_are_now(make_place: Callable[..., Place]) -> None:
    place = make_place(days=1, a_day=50)
    text = DAILY.format(folder=place.folder, columns="{}").replace("interval: {column", "# {column")
    place.spec.write_text(text)
    spec = parse_pipeline(text.encode(), "x")
    write_days(place.folder, "%Y-%m-%d", 1, 2)
    driver = Driver(spec, connector().open, place.registry)
    assert "publish" in driver.run(datetime(2026, 2, 1, tzinfo=UTC))

    write_days(place.folder, "%d.%m.%Y", 13, 14)
    assert any("halted" in step for step in driver.run(datetime(2026, 2, 1, tzinfo=UTC)))
    accepted = CliRunner().invoke(app, ["check", str(place.spec), "--accept"])
    assert "`created_at` was date iso and is text now; accepted" in accepted.stdout
    assert "publish" in driver.run(datetime(2026, 2, 1, tzinfo=UTC))


EMPTY_SALES = """
features: >-
  select p.payment_id, any_value(p.amount) as amount, any_value(p.items) as items, any_value(p.country) as country,
  any_value(p.first) as first, sum(s.price) as spent, max(s.sold_at) as last
  from payments p left join sales s using (payment_id) group by 1
expectations:
  sales:
    - {type: expect_column_values_to_be_between, column: price, min_value: 0, severity: warning}
"""


def test_a_secondary_source_without_rows_is_joined_as_no_rows(make_place: Callable[..., Place]) -> None:
    text = DAILY.format(folder="FOLDER/days", columns="{}").replace("interval: {column", "# {column")
    place = make_place(days=1, a_day=50)
    for folder in ("days", "sales"):
        (place.folder / folder).mkdir()
    sales = f"  sales: {{kind: files, path: {place.folder}/sales/*.csv, format: csv, key: [payment_id]}}\n"
    text = text.replace("model: card", f"{sales}{EMPTY_SALES.strip()}\nmodel: card").replace(
        "FOLDER", str(place.folder)
    )
    (place.folder / "sales" / "a.csv").write_text("payment_id,price,sold_at\n")
    write_days(place.folder / "days", "%Y-%m-%d", 1, 2)
    place.spec.write_text(text)
    driver = Driver(parse_pipeline(text.encode(), "x"), connector().open, place.registry)

    assert "publish" in driver.run(datetime(2026, 2, 1, tzinfo=UTC))
    checked = CliRunner().invoke(app, ["check", str(place.spec)])
    assert (checked.exit_code, "✗" in checked.stdout) == (0, False)

    (place.folder / "sales" / "a.csv").write_text("payment_id,price,sold_at\n1,5.5,2026-01-01\n")
    assert "publish" in driver.run(datetime(2026, 2, 1, tzinfo=UTC))
    (place.folder / "sales" / "a.csv").write_text("payment_id,price,sold_at\n")
    assert "publish" in driver.run(datetime(2026, 2, 1, tzinfo=UTC))


def test_check_notes_that_text_is_deprecated(make_place: Callable[..., Place]) -> None:
    place = make_place(days=1, a_day=50)
    write_days(place.folder, "%Y-%m-%d", 1)
    place.spec.write_text(DAILY.format(folder=place.folder, columns="{}").replace("columns: {}", "text: [country]"))

    checked = CliRunner().invoke(app, ["check", str(place.spec)])

    assert "write `columns: {country: string}` instead" in checked.stdout
