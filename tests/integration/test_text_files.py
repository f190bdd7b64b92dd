"""Text files are staged once a run. A bad row is a refused row, counted and kept, and the others are scored."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from penstock.cli.app import app
from penstock.ledger.quarantine import quarantined_rows
from penstock.ledger.reader import find_run, list_runs, validations_of
from penstock.ledger.releases import pending_releases
from penstock.privacy.masking import NO_MASKING
from penstock.privacy.row_key import RowKey
from penstock.spec.yaml_file import parse_pipeline
from penstock.tasks.process_resources import connect
from penstock.upkeep.erasure import ErasureRequest, erase
from tests.conftest import DIALECTS, view_rows
from tests.driver import Driver, lapse_leases
from tests.shop import Place

SPEC = """
name: card-risk
interval: {{column: created_at, grain: 1d, start: 2026-01-01}}
sources:
  payments:
    kind: files
    path: "{folder}/{{interval_start:%Y-%m-%d}}.{kind}"
    format: {kind}
    key: [payment_id]
    max_malformed: {limit}
    stray: {stray}
model: card-risk@champion
destination: {{connection: warehouse, table: card_risk_scores, keep: [amount, country]}}
quarantine_limit: 0.5
partition_rows: 40
"""
DAY_1, DAY_2, DAY_3 = (datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2, 3))
HEADER = "payment_id,amount,items,country,first,created_at"


def row(number: int, day: int = 1, kind: str = "csv") -> str:
    values = {
        "payment_id": number,
        "amount": 10.5 + number,
        "items": 2,
        "country": "DE",
        "first": True,
        "created_at": f"2026-01-{day:02} 10:00:{number % 60:02}",
    }
    return json.dumps(values) if kind in ("json", "parquet") else ",".join(map(str, values.values()))


@pytest.fixture
def days(make_place: Callable[..., Place], tmp_path: Path, request: pytest.FixtureRequest) -> "Days":
    return Days(make_place(warehouse=getattr(request, "param", "sqlite"), days=1, a_day=50), tmp_path / "days")


class Days:
    """A pipeline that reads one file a day."""

    def __init__(self, place: Place, folder: Path) -> None:
        self.place, self.folder = place, folder
        folder.mkdir()

    def write(self, day: int, lines: list[str], kind: str = "csv") -> Path:
        file = self.folder / f"2026-01-{day:02}.{kind}"
        if kind == "parquet":
            records = [json.loads(line) for line in lines]
            moments = [datetime.fromisoformat(r["created_at"]).replace(tzinfo=UTC) for r in records]
            table = pa.Table.from_pylist(records).drop_columns(["created_at"])
            pq.write_table(table.append_column("created_at", pa.array(moments)), file)
            return file
        file.write_text("\n".join([*([HEADER] if kind == "csv" else []), *lines, ""]))
        return file

    def driver(self, kind: str = "csv", limit: float = 0.05, stray: str = "note", more: str = "") -> Driver:
        text = SPEC.format(folder=self.folder, kind=kind, limit=limit, stray=stray) + more
        self.place.spec.write_text(text)
        return Driver(parse_pipeline(text.encode(), "x"), connect, self.place.registry)

    @property
    def keys(self) -> list[int]:
        return [found[0] for found in view_rows(self.place.warehouse)]


BAD = {
    "a ragged line": ("csv", "7,5,2,DE", "4 fields instead of 6"),
    "a date that is none": ("csv", "7,5,2,DE,True,0000-00-00", "`created_at`: does not fit the type timestamp iso:"),
    "a text among numbers": (
        "csv",
        "7,NA?,2,DE,True,2026-01-02 10:00:00",
        "`amount`: does not fit the type number: 'NA?'",
    ),
    "a quote that stays open": ("csv", '7,5,2,"DE,True,2026-01-02 10:00:00', "a quote that is not closed"),
    "broken JSON": ("json", '{"payment_id": 7, ', "no JSON"),
    "JSON that is no object": ("json", "[7]", "no JSON object"),
    "a text among JSON numbers": ("json", '{"payment_id": 7, "amount": "x"}', "`amount`: does not fit"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_row_is_refused_alone_and_kept_with_file_line_and_text(days: Days, bad: str) -> None:
    kind, line, reason = BAD[bad]
    days.write(1, [row(n, 1, kind).replace(",DE,", ',"DE",') for n in range(100, 200)], kind)
    file = days.write(2, [row(n, 2, kind) if n != 250 else line for n in range(200, 300)], kind)

    done = days.driver(kind).run(DAY_3)

    assert done.count("publish") == 2, done
    assert days.keys == [n for n in range(100, 300) if n != 250]
    [refused] = quarantined_rows(days.place.warehouse)
    number = 52 if kind == "csv" else 51
    assert json.loads(refused.key) == {"file": str(file), "line": number}
    assert json.loads(refused.row) == {"file": str(file), "line": number, "text": line}
    assert refused.reasons[0].startswith(reason)
    run = find_run(days.place.warehouse, refused.run_id)
    assert (run.rows_extracted, run.rows_scored, run.rows_quarantined) == (100, 99, 1)
    [found] = [v for v in validations_of(days.place.warehouse, run.run_id) if v.expectation == "max_malformed"]
    assert (found.evaluated, found.unexpected) == (100, 1)


@pytest.mark.parametrize("days", DIALECTS, indirect=True)
def test_refused_rows_are_kept_once_in_every_warehouse_whatever_dies(days: Days) -> None:
    days.write(1, [row(n) for n in range(100, 199)] + ["1,2"])
    driver = days.driver()
    list(takewhile(lambda step: step != "load 2/3", driver.steps(DAY_2)))  # the first partition is loaded
    lapse_leases(days.place.warehouse)

    assert "publish" in driver.run(DAY_2)

    published = [run for run in list_runs(days.place.warehouse) if run.state == "published"]
    [run] = published
    [refused] = quarantined_rows(days.place.warehouse, run_id=run.run_id)
    assert json.loads(refused.row)["text"] == "1,2"
    assert (run.rows_extracted, run.rows_scored, run.rows_quarantined) == (100, 99, 1)
    assert days.keys == [*range(100, 199)]


def test_a_run_whose_rows_are_all_refused_names_the_first_reason(days: Days) -> None:
    days.write(1, [row(n).replace("DE", "XX") for n in range(100, 150)])

    done = days.driver().run(DAY_2)

    assert "50 of 50 rows, 100.0% were refused" in done[-1]
    assert "the first: `country`: unseen category 'XX'" in done[-1]


def test_too_many_bad_rows_halt_with_the_first_reason_and_line_and_are_kept(days: Days) -> None:
    file = days.write(1, [row(n) for n in range(100, 200)] + ["1,2", "TOTAL,3"])

    done = days.driver(limit=0.01).run(DAY_2)

    assert "halted" in done[-1]
    assert "2 of 102 rows cannot be read" in done[-1]
    assert f"line 102 of {file}: 2 fields instead of 6" in done[-1]
    assert [run.state for run in list_runs(days.place.warehouse)] == ["halted"]
    kept = quarantined_rows(days.place.warehouse)
    assert [json.loads(refused.row)["text"] for refused in kept] == ["1,2", "TOTAL,3"]


def test_the_text_of_a_refused_row_is_not_kept_beside_private_columns(days: Days) -> None:
    days.write(1, [row(n) for n in range(100, 199)] + ["secret,1"])
    driver = days.driver()
    source = driver.pipeline.sources["payments"].model_copy(update={"private": {"items": "drop"}})
    pipeline = driver.pipeline.model_copy(update={"sources": {"payments": source}})

    Driver(pipeline, connect, driver.registry).run(DAY_2)

    [refused] = quarantined_rows(days.place.warehouse)
    assert set(json.loads(refused.row)) == {"file", "line"}
    assert "secret" not in str(refused)


def test_a_line_that_cannot_be_read_is_not_released_and_the_message_says_what_to_do(days: Days) -> None:
    days.write(1, [row(n) for n in range(100, 199)] + ["1,2"])
    days.driver().run(DAY_2)

    ended = CliRunner().invoke(app, ["quarantine", "release", str(days.place.spec), "--yes"])

    assert ended.exit_code == 0, ended.output
    said = " ".join(ended.output.split())
    assert said == (
        "1 line cannot be released: it has no row that can be read. Correct the file, then "
        f"`penstock run {days.place.spec} --restate --start 2026-01-01T00:00:00Z --end 2026-01-02T00:00:00Z`"
    )
    assert [row_.state for row_ in quarantined_rows(days.place.warehouse)] == ["held"]
    assert pending_releases(days.place.warehouse, "card-risk") == {}


def test_without_one_good_row_an_interval_is_published_with_its_refused_rows(days: Days) -> None:
    days.write(1, ["7"] * 3)

    driver = days.driver(limit=1)
    text = days.place.spec.read_text().replace("quarantine_limit: 0.5", "quarantine_limit: 1.0")
    text = text.replace("    stray:", '    csv: {delimiter: ",", header: true, skip: 0}\n    stray:')

    done = Driver(parse_pipeline(text.encode(), "x"), connect, driver.registry).run(DAY_2)
    assert "publish" in done, done[-1]

    [run] = list_runs(days.place.warehouse)
    assert (run.rows_extracted, run.rows_scored, run.rows_quarantined) == (3, 0, 3)


LOOKUP = """
features: >-
  select p.payment_id, any_value(p.amount) as amount, any_value(p.items) as items, any_value(s.country) as country,
  any_value(p.first) as first from payments p left join shops s on s.id = p.items group by p.payment_id
"""


def test_refused_rows_of_a_secondary_source_are_kept_and_judged_but_no_rows_of_the_run(days: Days) -> None:
    days.write(1, [row(n) for n in range(100, 150)])
    (days.folder / "shops.csv").write_text("id,country\n2,DE\nbroken\n" + "".join(f"{n},FR\n" for n in range(3, 200)))
    shops = f"  shops: {{kind: files, path: {days.folder}/shops.csv, format: csv, key: [id]}}\nmodel:"
    driver = days.driver()
    text = days.place.spec.read_text().replace("model:", shops) + LOOKUP
    pipeline = parse_pipeline(text.encode(), "x")

    done = Driver(pipeline, connect, driver.registry).run(DAY_2)
    assert "publish" in done, done[-1]

    [refused] = quarantined_rows(days.place.warehouse)
    assert (refused.source, json.loads(refused.row)["text"]) == ("shops", "broken")
    [run] = list_runs(days.place.warehouse)
    assert (run.rows_extracted, run.rows_scored, run.rows_quarantined) == (50, 50, 0)

    (days.folder / "shops.csv").write_text("id,country\n2,DE\n3,DE\n4,FR\nbroken\n")
    days.write(2, [row(n, 2) for n in range(150, 200)])
    halted = Driver(pipeline, connect, driver.registry).run(DAY_3)
    assert "source `shops`: 1 of 4 rows cannot be read" in halted[-1]
    assert "line 5 of" in halted[-1]


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
@pytest.mark.parametrize("stray", ["note", "quarantine", "halt"])
def test_rows_outside_the_interval_of_their_file_are_counted_kept_or_halt(days: Days, stray: str, kind: str) -> None:
    days.write(1, [row(n, 1, kind) for n in range(100, 150)] + [row(9, 12, kind)], kind)

    done = days.driver(kind, stray=stray).run(DAY_2)

    [run] = list_runs(days.place.warehouse)
    if stray == "halt":
        assert "1 row of the interval's files are outside" in done[-1]
        assert run.state == "halted"
        return
    assert "publish" in done
    assert days.keys == [*range(100, 150)]
    kept = quarantined_rows(days.place.warehouse)
    assert [json.loads(refused.row)["payment_id"] for refused in kept] == ([9] if stray == "quarantine" else [])
    assert run.rows_extracted == (51 if stray == "quarantine" else 50)
    [found] = [v for v in validations_of(days.place.warehouse, run.run_id) if v.expectation.startswith("stray")]
    assert (found.unexpected, found.outcome) == (1, "quarantined" if stray == "quarantine" else "noted")


def test_a_file_of_many_days_counts_each_refused_row_in_the_interval_of_its_neighbours(days: Days) -> None:
    days.write(1, [row(n, 1) for n in range(100, 150)] + ["1,2"] + [row(n, 2) for n in range(150, 200)] + ["3,4"])
    driver = days.driver()
    text = days.place.spec.read_text().replace("{interval_start:%Y-%m-%d}", "*")

    Driver(parse_pipeline(text.encode(), "x"), connect, driver.registry).run(DAY_3)

    texts = {
        refused.interval_key: json.loads(refused.row)["text"] for refused in quarantined_rows(days.place.warehouse)
    }
    assert [texts[key] for key in sorted(texts)] == ["1,2", "3,4"]


def test_nested_values_are_sql_values_in_the_features_query(days: Days) -> None:
    lines = []
    for number in range(100, 150):
        values = json.loads(row(number, 1, "json"))
        values["user"] = {"age": 3 if number < 149 else 2.5, "tags": ["a", "b"]}
        lines.append(json.dumps(values))
    days.write(1, lines, "json")
    driver = days.driver("json")
    features = """
features: >-
  select payment_id, "user".age as amount, len("user".tags) as items, country, first, "user" from payments
"""
    text = days.place.spec.read_text().replace("keep: [amount, country]", "keep: [amount, country, user]") + features

    assert "publish" in Driver(parse_pipeline(text.encode(), "x"), connect, driver.registry).run(DAY_2)

    with days.place.warehouse.reading() as connection:
        query = 'select amount, "user" from card_risk_scores where payment_id in (100, 149) order by payment_id'
        found = [tuple(each) for each in connection.exec_driver_sql(query)]
    assert found == [(3.0, '{"age": 3.0, "tags": ["a", "b"]}'), (2.5, '{"age": 2.5, "tags": ["a", "b"]}')]


def test_structs_lists_and_maps_of_parquet_files_are_sql_values(tmp_path: Path, days: Days) -> None:
    user = pa.array([{"age": 3, "tags": ["a"]}] * 50)
    table = pa.table(
        {
            "payment_id": range(50),
            "country": ["DE"] * 50,
            "created_at": [DAY_1] * 50,
            "user": user,
            "more": pa.array([[("x", 2)]] * 50, pa.map_(pa.string(), pa.int64())),
        }
    )
    pq.write_table(table, days.folder / "2026-01-01.parquet")
    driver = days.driver("parquet")
    features = """
features: >-
  select payment_id, "user".age as amount, more['x'] as items, country, true as first, "user", more from payments
"""
    text = (
        days.place.spec.read_text().replace("keep: [amount, country]", "keep: [amount, country, user, more]") + features
    )

    assert "publish" in Driver(parse_pipeline(text.encode(), "x"), connect, driver.registry).run(DAY_2)

    with days.place.warehouse.reading() as connection:
        query = 'select distinct amount, "user", more from card_risk_scores'
        found = [tuple(each) for each in connection.exec_driver_sql(query)]
    assert found == [(3, '{"age": 3, "tags": ["a"]}', '{"x": 2}')]


def test_a_parquet_file_of_another_type_halts_by_the_contract(days: Days) -> None:
    days.write(1, [row(n, 1, "parquet") for n in range(100, 150)], "parquet")
    file = days.write(2, [row(n, 2, "parquet") for n in range(150, 200)], "parquet")
    table = pq.read_table(file)
    pq.write_table(table.set_column(1, "amount", table["amount"].cast(pa.string())), file)

    done = days.driver("parquet").run(DAY_3)

    assert "`amount` was float and is text now" in done[-1]
    assert days.keys == [*range(100, 150)]


def test_twenty_digit_ids_join_exactly(days: Days) -> None:
    ids = [12345678901234567890 + n for n in range(3)]
    header, *_ = HEADER.split(",created_at")
    file = days.folder / "2026-01-01.csv"
    file.write_text(
        "\n".join([f"{header},created_at,sim", *(f"{row(n)},{sim}" for n, sim in zip(range(3), ids, strict=True)), ""])
    )
    (days.folder / "sims.csv").write_text("".join(["sim,bought\n", *(f"{sim},{n}\n" for n, sim in enumerate(ids, 1))]))
    driver = days.driver()
    sims = f"  sims: {{kind: files, path: {days.folder}/sims.csv, format: csv, key: [sim]}}\nmodel:"
    features = """
features: >-
  select payment_id, sum(bought) as amount, any_value(items) as items, any_value(country) as country,
  any_value(first) as first from payments left join sims using (sim) group by payment_id
"""
    text = days.place.spec.read_text().replace("model:", sims) + features

    assert "publish" in Driver(parse_pipeline(text.encode(), "x"), connect, driver.registry).run(DAY_2)

    with days.place.warehouse.reading() as connection:
        found = connection.exec_driver_sql("select amount from card_risk_scores order by payment_id").scalars()
        assert list(found) == [1, 2, 3]


def test_forgetting_a_key_deletes_refused_lines_with_it(days: Days) -> None:
    days.write(1, [row(n) for n in range(100, 200)] + ["4711,1", "47110,1"])
    driver = days.driver()
    driver.run(DAY_2)

    asked = ErasureRequest(driver.pipeline, RowKey({"payment_id": "4711"}))
    erase(days.place.warehouse, asked, NO_MASKING, b"x" * 16)

    assert [json.loads(refused.row)["text"] for refused in quarantined_rows(days.place.warehouse)] == ["47110,1"]

    text = days.place.spec.read_text().replace("key: [payment_id]", "key: [payment_id, items]")
    both = parse_pipeline(text.encode(), "x")
    asked = ErasureRequest(both, RowKey({"payment_id": "47110", "items": "2"}))
    assert erase(days.place.warehouse, asked, NO_MASKING, None).get("penstock_quarantine", 0) == 0  # of another row
