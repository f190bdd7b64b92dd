"""`penstock monitor compare`: runs of the same interval side by side, on real databases."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
import sqlalchemy as sa

from penstock.ledger.reader import RunRecord, list_runs
from penstock.ledger.tables import runs
from penstock.ledger.writer import withdraw
from penstock.models.training import train
from penstock.settings import load_settings
from tests.changing_place import ChangingPlace, keys, payments
from tests.conftest import DIALECTS

on_each_warehouse = pytest.mark.parametrize("changing_place", DIALECTS, indirect=True)
COMPARE = ("monitor", "compare", "card-risk")
CUT = 0.5


@pytest.fixture
def place(changing_place: ChangingPlace) -> ChangingPlace:
    """A pipeline that has scored and decided three days with version 1, and then again with version 2."""
    folder = load_settings().pipelines
    folder.mkdir(parents=True)
    place = changing_place
    place.spec = place.spec.rename(folder / "card-risk.yaml")
    place.add(f"decide: {{decision: \"case when score > {CUT} then 'block' else 'pass' end\", high: score > {CUT}}}")
    place.run(3, "restate", "2026-01-01", "2026-01-04")
    place.edit("card-risk@champion", "card-risk@2")
    place.run(3, "restate", "2026-01-01", "2026-01-04")
    return place


def scored_by(place: ChangingPlace, version: str) -> list[RunRecord]:
    """Return the newest run of each day."""
    found = [run for run in list_runs(place.warehouse, limit=1000) if run.model_version == version]
    newest = {run.interval_key: run for run in sorted(found, key=lambda run: run.started_at)}
    return [newest[key] for key in sorted(newest)]


def compare(place: ChangingPlace, *arguments: str) -> Any:
    code, text = place.command(*COMPARE, *arguments, "--json")
    assert code == 0, text
    return json.loads(text)


def refused(place: ChangingPlace, *arguments: str) -> str:
    code, text = place.command(*COMPARE, *arguments)
    assert code == 2, text
    return " ".join(text.split())


def decide(score: float) -> str:
    return "block" if score > CUT else "pass"


def flipped(place: ChangingPlace, *days: int) -> list[int]:
    """Return the keys whose decision differs between version 1 and 2."""
    one, two = place.scores(*days, version="1"), place.scores(*days, version="2")
    return sorted(key for key in one if decide(one[key]) != decide(two[key]))


@on_each_warehouse
def test_two_versions_are_compared_over_all_intervals_that_both_have(place: ChangingPlace) -> None:
    found = compare(place, "card-risk/1", "card-risk/2")

    one, two = place.scores(1, 2, 3, version="1"), place.scores(1, 2, 3, version="2")
    differences = [two[key] - one[key] for key in one]
    assert [each["interval"] for each in found["intervals"]] == [
        "2026-01-01 → 01-02",
        "2026-01-02 → 01-03",
        "2026-01-03 → 01-04",
    ]
    assert found["rows"] == {"both": 12, "only_a": 0, "only_b": 0, "flips": len(flipped(place, 1, 2, 3))}
    [score] = found["scores"]
    assert score["column"] == "score"
    assert score["mean_a"] == pytest.approx(sum(one.values()) / 12)
    assert score["mean_b"] == pytest.approx(sum(two.values()) / 12)
    assert score["largest_difference"] == pytest.approx(max(differences, key=abs))
    assert score["mean_difference"] == pytest.approx(sum(map(abs, differences)) / 12)
    assert [each["column"] for each in found["decisions"]] == ["decision", "high"]
    assert [each["flips"] for each in found["decisions"]] == [found["rows"]["flips"]] * 2
    cells = {(cell["a"], cell["b"]): cell["rows"] for cell in found["decisions"][0]["cells"]}
    both = [(decide(one[key]), decide(two[key])) for key in one]
    assert cells == {cell: both.count(cell) for cell in set(both)}
    assert {type(cell["a"]) for cell in found["decisions"][1]["cells"]} == {bool}


def test_the_terminal_shows_the_figures_and_the_first_flips(place: ChangingPlace) -> None:
    code, text = place.command(*COMPARE, "card-risk/1", "card-risk/2")

    assert code == 0, text
    assert "card-risk: A is card-risk/1, B is card-risk/2" in text
    assert "same decile" in text
    assert "The first flips:" in text
    assert f"  {flipped(place, 1, 2, 3)[0]}  decision " in text


def test_a_range_chooses_intervals(place: ChangingPlace) -> None:
    found = compare(place, "card-risk/1", "live", "--start", "2026-01-02", "--end", "2026-01-03")

    assert [each["interval"] for each in found["intervals"]] == ["2026-01-02 → 01-03"]
    assert found["rows"]["both"] == 4


def test_two_runs_of_an_interval_are_named_by_their_ids(place: ChangingPlace) -> None:
    one, two = scored_by(place, "1")[1], scored_by(place, "2")[1]
    withdraw(place.warehouse, two.run_id)

    found = compare(place, one.run_id[:12], two.run_id)

    assert [(each["run_a"], each["run_b"]) for each in found["intervals"]] == [(one.run_id, two.run_id)]


@on_each_warehouse
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_all_flips_are_written_with_their_keys(place: ChangingPlace, suffix: str) -> None:
    file = place.folder / f"flips{suffix}"

    code, text = place.command(*COMPARE, "card-risk/1", "card-risk/2", "--flips", str(file))

    assert code == 0, text
    expected = flipped(place, 1, 2, 3)
    assert f"wrote {len(expected)} flips to" in text
    rows = pyarrow.parquet.read_table(file).to_pylist() if suffix == ".parquet" else read_csv(file)
    assert [int(row["key_payment_id"]) for row in rows] == expected
    assert list(rows[0]) == [
        *("interval_start", "interval_end", "key_payment_id", "a_decision", "b_decision", "a_high", "b_high"),
        *("a_score", "b_score"),
    ]
    one = place.scores(1, 2, 3, version="1")
    assert [row["a_decision"] for row in rows] == [decide(one[key]) for key in expected]
    assert [float(row["a_score"]) for row in rows] == [one[key] for key in expected]
    assert list(file.parent.glob("*.unfinished")) == []


def read_csv(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


@pytest.mark.parametrize("suffix", [".svg", ".html"])
def test_a_picture_is_drawn(place: ChangingPlace, suffix: str) -> None:
    file = place.folder / f"compared{suffix}"

    code, text = place.command(*COMPARE, "card-risk/1", "card-risk/2", "--picture", str(file))

    assert code == 0, text
    drawn = file.read_text()
    assert drawn.count("<svg") == 2
    assert "card-risk: card-risk/2 compared with card-risk/1, 12 rows in both" in drawn


@on_each_warehouse
def test_variants_are_sides(place: ChangingPlace) -> None:
    first_of_day_two = next(
        run
        for run in reversed(list_runs(place.warehouse, limit=1000))
        if run.interval_key == scored_by(place, "1")[1].interval_key
    )
    for run, variant in zip(scored_by(place, "1")[:2], ("shadow:card-risk/1", "trial:wider"), strict=True):
        with place.warehouse.writing() as connection:
            made = {"state": "published", "variant": variant, "replaced_by_run_id": None, "retired_at": None}
            connection.execute(sa.update(runs).where(runs.c.run_id == run.run_id).values(**made))

    shadow = compare(place, "live", "shadow:card-risk/1")
    trial = compare(place, "live", "trial:wider")
    version = compare(place, "card-risk/2", "card-risk/1")  # the run of another variant is not the version's

    assert [each["interval"] for each in shadow["intervals"]] == ["2026-01-01 → 01-02"]
    assert [each["interval"] for each in trial["intervals"]] == ["2026-01-02 → 01-03"]
    assert trial["intervals_only_a"] == ["2026-01-01 → 01-02", "2026-01-03 → 01-04"]
    assert [each["run_b"] for each in version["intervals"]] == [
        scored_by(place, "1")[0].run_id,
        first_of_day_two.run_id,
        scored_by(place, "1")[2].run_id,
    ]


@on_each_warehouse
def test_rows_of_one_side_alone_are_counted(place: ChangingPlace) -> None:
    place.change(f"delete from payments where payment_id = {keys(2)[0]}")
    place.run(3, "restate", "2026-01-02", "2026-01-03")

    found = compare(place, "card-risk/1", "live")

    assert found["rows"]["both"] == 11
    assert [each["only_a"] for each in found["intervals"]] == [0, 1, 0]
    assert found["rows"]["only_b"] == 0


def test_what_cannot_be_compared_says_why(place: ChangingPlace) -> None:
    one, two = scored_by(place, "1"), scored_by(place, "2")

    assert "Did you mean `card-risk/2`?" in refused(place, "card-risk/1", "card-risk/22")
    assert "no published run has this name. Known: " in refused(place, "live", "shadow:x")
    assert "no interval is in both" in (text := refused(place, one[0].run_id, two[1].run_id))
    assert "has 2026-01-01 → 01-02" in text
    assert "has 2026-01-02 → 01-03" in text
    assert "both stand for the same 3 runs" in refused(place, "live", "card-risk/2")
    assert "no run in this range" in refused(place, "live", "card-risk/1", "--start", "2026-02-01")
    assert "ledger has no run `abcdef`" in refused(place, "live", "abcdef")
    assert "must end in .csv or .parquet" in refused(place, "live", "card-risk/1", "--flips", "flips.xlsx")
    with place.warehouse.writing() as connection:
        connection.execute(sa.update(runs).where(runs.c.run_id == one[0].run_id).values(state="halted"))
    assert "is `halted`, so it may lack rows" in refused(place, "live", one[0].run_id)


def test_pruned_runs_are_named(place: ChangingPlace) -> None:
    place.add("retention: {keep_runs: 0}")
    place.command("prune", "card-risk", "--yes")

    text = refused(place, "live", "card-risk/1")
    assert "the rows of `card-risk/1` were pruned in 2026-01-01 → 01-02" in text
    assert "keep_runs" in text
    assert "were pruned" in refused(place, "live", scored_by(place, "1")[0].run_id)


@on_each_warehouse
def test_runs_in_two_tables_and_with_other_columns_are_compared(place: ChangingPlace) -> None:
    place.edit("table: card_risk_scores", "table: other_scores")
    place.edit("high: score", "very_high: score")
    place.edit("card-risk@2", "card-risk@1")
    place.run(3)

    found = compare(place, "card-risk/2", "card-risk/1")

    assert found["rows"]["both"] == 12
    assert found["columns_only_a"] == ["high"]
    assert found["columns_only_b"] == ["very_high"]
    assert [each["column"] for each in found["decisions"]] == ["decision"]


@on_each_warehouse
def test_decisions_of_another_type_are_compared_as_text(place: ChangingPlace) -> None:
    place.edit("table: card_risk_scores", "table: other_scores")
    place.edit("case when score > 0.5 then 'block' else 'pass' end", "score > 0.5")
    place.edit("card-risk@2", "card-risk@1")
    place.run(3)
    file = place.folder / "flips.csv"

    found = compare(place, "card-risk/2", "card-risk/1", "--flips", str(file))

    assert found["rows"] == {"both": 12, "only_a": 0, "only_b": 0, "flips": 12}
    assert {row["a_decision"] for row in read_csv(file)} <= {"block", "pass"}
    assert {row["b_decision"] for row in read_csv(file)} <= {"true", "false", "1", "0"}


def test_private_keys_are_hashed(place: ChangingPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_PRIVATE_KEY", "a secret of some length")
    place.edit("key: [payment_id]", "key: [payment_id], private: {payment_id: hash}")
    file = place.folder / "flips.csv"

    code, text = place.command(*COMPARE, "card-risk/1", "card-risk/2", "--flips", str(file))

    assert code == 0, text
    assert "hash:" in text
    written = [row["key_payment_id"] for row in read_csv(file)]
    assert written == [place.driver.masking.hash(key) for key in flipped(place, 1, 2, 3)]
    assert compare(place, "card-risk/1", "card-risk/2")["first_flips"][0]["key_payment_id"] == written[0]


def test_a_ranking_models_runs_are_compared_within_the_groups_of_its_manifest(place: ChangingPlace) -> None:
    rows = payments().select(["amount", "items", "country"])
    wanted = rows.append_column("wanted", pa.array((rows["amount"].to_numpy() > 25).astype(int)))
    trained = train(wanted, "wanted", objective="rank:ndcg", group=["country"], rounds=3)
    trained.register(place.registry, "rank-risk")
    place.edit("model: card-risk@2", "model: rank-risk@1")
    for _ in range(2):
        place.run(3, "restate", "2026-01-01", "2026-01-02")
    newest, before, *_ = list_runs(place.warehouse, limit=2)

    [ranks] = compare(place, before.run_id, newest.run_id)["ranks"]
    _, text = place.command(*COMPARE, before.run_id, newest.run_id)

    assert (ranks["group"], ranks["missing"], ranks["groups"]) == (["country"], [], 0)  # a payment a country and day
    assert "`score` ranks the rows of `country`, and no group has two rows in both" in " ".join(text.split())


@on_each_warehouse
def test_a_challenger_is_compared_with_what_readers_see_and_then_goes_live_in_the_past(place: ChangingPlace) -> None:
    place.edit("card-risk@2", "card-risk@1")
    place.add("challengers: [{model: card-risk@2}]")
    place.run(3, "restate", "2026-01-01", "2026-01-03")

    found = compare(place, "live", "shadow:card-risk/2")
    arguments = ("publish", "--pipeline", "card-risk", "--scored-by", "card-risk/2", "--end", "2026-01-03")
    _, planned = place.command(*arguments, "--dry-run", "--json")
    code, text = place.command(*arguments, "--reason", "it is better", "--yes")

    assert found["rows"] == {"both": 8, "only_a": 0, "only_b": 0, "flips": len(flipped(place, 1, 2))}
    assert code == 0, text
    one, two = place.scores(1, 2, version="1"), place.scores(1, 2, version="2")
    assert sum(each["changed"] for each in json.loads(planned)) == sum(one[key] != two[key] for key in one)
    assert place.seen_scores() == two | place.scores(3, version="2")
    place.verify()
