"""`penstock monitor replay`: other limits are judged on the rows and counts of past runs, on real databases."""

import json

import pytest

from penstock.ledger.reader import list_runs
from penstock.settings import load_settings
from penstock.upkeep.acceptance import accept_run
from tests.changing_place import ChangingPlace
from tests.conftest import DIALECTS
from tests.shop import COUNTRIES

pytestmark = pytest.mark.parametrize("changing_place", DIALECTS, indirect=True)
GATES = """
expectations:
  payments:
    - {type: expect_column_max_to_be_between, column: amount, max_value: 30}
    - {type: expect_column_values_to_be_between, column: items, max_value: 7, severity: warning}
partition_rows: 2
quarantine_limit: 0.5
"""


@pytest.fixture
def place(changing_place: ChangingPlace) -> ChangingPlace:
    """A pipeline that has scored three days, with a refused row in each, and whose fourth day the audit halts."""
    folder = load_settings().pipelines
    folder.mkdir(parents=True)
    place = changing_place
    place.spec = place.spec.rename(folder / "card-risk.yaml")
    place.add(GATES)
    place.run(3, "restate", "2026-01-01", "2026-01-04")
    place.run(4)
    return place


def replayed(place: ChangingPlace, *options: str) -> list[tuple[str, bool, list[str]]]:
    """Return state, halt and observations of each run."""
    code, text = place.command("monitor", "replay", "card-risk", *options, "--json")
    assert code == 0, text
    return [
        (each["state"], each["would_halt"], [v["observed"] for v in each["validations"]]) for each in json.loads(text)
    ]


def test_a_figure_of_a_kept_column_is_judged_in_each_run(place: ChangingPlace) -> None:
    assert replayed(place, "--expectation", "max(amount) < 20") == [
        ("published", False, ["observed 11.5"]),
        ("published", True, ["observed 20"]),
        ("published", True, ["observed 28.5"]),
        ("halted", True, ["observed 37"]),
    ]


def test_a_figure_of_the_score_is_that_of_the_scored_rows(place: ChangingPlace) -> None:
    scores = place.seen_scores()
    worst = max(score for key, score in scores.items() if key < 20)

    before = replayed(place, "--expectation", f"max(score) <= {worst!r}", "--end", "2026-01-02")
    after = replayed(place, "--expectation", f"max(score) < {worst!r}", "--end", "2026-01-02")

    assert [halted for _, halted, _ in before] == [False]
    assert [halted for _, halted, _ in after] == [True]


def test_a_quarantine_limit_is_judged_by_the_counts(place: ChangingPlace) -> None:
    assert [halted for _, halted, _ in replayed(place, "--quarantine-limit", "0.25")] == [False] * 4
    assert [halted for _, halted, _ in replayed(place, "--quarantine-limit", "0.24")] == [True] * 4
    assert replayed(place, "--quarantine-limit", "0.2", "--start", "2026-01-04") == [
        ("halted", True, ["25.0% were refused, the limit is 20.0%"])
    ]


def test_the_answer_counts_the_runs_and_changes_nothing(place: ChangingPlace) -> None:
    before = place.states()

    code, text = place.command("monitor", "replay", "card-risk", "--expectation", "sum(amount) > 40")

    assert code == 0, text
    line = " ".join(text.split())
    assert "scores: amount column_sum_to_be_between (min_value=40.0, strict_min=True)" in line
    assert "1 run of 4 would have halted, 1 of them published; 1 run that halted would pass these limits" in line
    assert place.states() == before


def test_an_accepted_run_counts_as_live_and_a_superseded_one_not(place: ChangingPlace) -> None:
    [halted] = [run for run in list_runs(place.warehouse) if run.state == "halted"]
    accept_run(place.warehouse, halted.run_id, "Ada", "it is right")
    place.run(4, "restate", "2026-01-01", "2026-01-02")

    assert [state for state, *_ in replayed(place, "--quarantine-limit", "0.3")] == ["published"] * 4


def test_a_large_run_is_judged_by_a_sample_of_each_partition(place: ChangingPlace) -> None:
    """More rows than `audit_rows`, whose least value is 1,000, so the rows are made here."""
    place.add("audit_rows: 1000")
    place.edit("partition_rows: 2", "partition_rows: 700")
    rows = ", ".join(
        f"({1000 + n}, '2026-01-05 01:00:00', '2026-01-05 01:00:00', {n % 7 + 0.5}, 2, '{COUNTRIES[0]}', true)"
        for n in range(2100)
    )
    place.change("delete from payments where payment_id > 50")
    columns = "payment_id, created_at, updated_at, amount, items, country, first"
    place.change(f"insert into payments ({columns}) values {rows}")
    [*_, ended] = place.run(5)
    assert ended == "published 2026-01-05 → 01-06"

    [(_, halted, [observed])] = replayed(place, "--expectation", "max(amount) < 7", "--start", "2026-01-05")

    assert not halted
    assert "on a sample of 1,000 rows" in observed or "on a sample of 999 rows" in observed


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ((), "give an --expectation, a --quarantine-limit or a --drift"),
        (("--expectation", "amount < 3"), "is no limit of a figure"),
        (("--expectation", "max(items) < 3"), "has no column `items`"),
        (("--expectation", "max(amuont) < 3"), "Did you mean `amount`?"),
        (("--quarantine-limit", "2"), "Invalid value"),
    ],
)
def test_what_cannot_be_judged_is_refused_by_name(place: ChangingPlace, options: tuple[str, ...], why: str) -> None:
    code, text = place.command("monitor", "replay", "card-risk", *options)

    assert code == 2
    assert why in " ".join(text.split())
