"""The run card and the command line show one document of real runs."""

import base64
import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from penstock.database.connections import Database, open_database
from penstock.interval import Grid
from penstock.ledger.claims import ClaimRequest, claim
from penstock.ledger.lineage import earlier_runs, previous_published, replaced_by, replaced_runs
from penstock.ledger.reader import RunRecord, find_run, list_runs
from penstock.ledger.tables import partitions, validations
from penstock.ledger.writer import Totals, end_run, publish, withdraw
from penstock.report.card import run_card
from penstock.report.document import read_document
from penstock.run_types import ModelPin
from penstock.spec.yaml_file import parse_pipeline
from tests.conftest import DIALECTS
from tests.shop import SPEC, Place

PIPELINE = parse_pipeline(SPEC.encode(), "x")
DAY, NEXT_DAY = Grid(datetime(2026, 1, 1, tzinfo=UTC), timedelta(days=1)).split(datetime(2026, 1, 3, tzinfo=UTC))
MODEL = ModelPin("card-risk", "1", "d" * 64)
TOTALS = Totals(10, 9, 1, 0)
LINK = "/runs/flow-run/{}".format


def take(database: Database, lease: float = 60.0, **options: Any) -> Any:
    return claim(
        database, ClaimRequest(PIPELINE, options.pop("interval", DAY), MODEL, "due", lease, again=True, **options)
    )


def record(database: Database, run: Any) -> RunRecord:
    return find_run(database, run.run_id)


@pytest.fixture(params=DIALECTS)
def warehouse(request: Any, use_settings: Callable[..., Any], database_url: Callable[[str, str], str]) -> Database:
    return open_database(use_settings(warehouse=database_url(request.param, "warehouse")), "warehouse")


def test_the_ledger_tells_who_took_whose_place(warehouse: Database) -> None:
    published = take(warehouse)
    publish(warehouse, published, TOTALS, [])
    failed = take(warehouse)
    end_run(warehouse, failed, "failed", "the disk is full")
    dead = take(warehouse, lease=0.2)
    time.sleep(0.4)
    successor = take(warehouse)
    publish(warehouse, successor, TOTALS, [])

    assert [r.run_id for r in replaced_runs(warehouse, record(warehouse, successor))] == [published.run_id, dead.run_id]
    for run in (published, dead):
        replacing = replaced_by(warehouse, record(warehouse, run))
        assert replacing is not None
        assert replacing.run_id == successor.run_id
    assert replaced_by(warehouse, record(warehouse, failed)) is None
    assert [r.state for r in earlier_runs(warehouse, record(warehouse, successor))] == [
        "abandoned",
        "failed",
        "superseded",
    ]


def test_scores_are_compared_with_the_published_run_of_the_interval_before(warehouse: Database) -> None:
    shown = take(warehouse)
    publish(warehouse, shown, TOTALS, [])
    halted = take(warehouse)
    end_run(warehouse, halted, "halted", "no")
    run = take(warehouse, interval=NEXT_DAY)

    before = previous_published(warehouse, record(warehouse, run))

    assert before is not None
    assert before.run_id == shown.run_id
    withdraw(warehouse, shown.run_id)
    assert previous_published(warehouse, record(warehouse, run)) is None


def change(database: Database, statement: str) -> None:
    with database.writing() as connection:
        connection.execute(sa.text(statement))


def run_score(place: Place, **parameters: Any) -> Any:
    from penstock.flows.score import score

    return score(str(place.spec), **parameters, return_state=True)


@pytest.fixture(scope="module")
def ledgers() -> dict[str, bytes]:
    """Warehouse files by name: what took runs to make is made once."""
    return {}


@pytest.fixture
def scored(make_place: Callable[..., Place], prefect_api: str, ledgers: dict[str, bytes]) -> Place:
    """Two published days, the second restated, and a third that halts."""
    place = make_place()
    file = place.folder / "warehouse.sqlite"
    if ledgers:
        file.write_bytes(ledgers["scored"])
        return place
    run_score(place, end="2026-01-02")
    change(place.shop, "update payments set amount = null where payment_id in (251, 252)")
    run_score(place, end="2026-01-03")
    run_score(place, mode="restate", start="2026-01-02", end="2026-01-03")
    change(place.shop, "update payments set amount = null where payment_id between 501 and 600")
    run_score(place, end="2026-01-04")
    ledgers["scored"] = file.read_bytes()
    return place


def of(place: Place, day: str, state: str) -> RunRecord:
    return next(r for r in list_runs(place.warehouse) if r.interval_key.startswith(day) and r.state == state)


def test_a_published_runs_card_tells_counts_shift_times_and_the_runs_around_it(scored: Place) -> None:
    run, old, before = (
        of(scored, *which)
        for which in (("2026-01-02", "published"), ("2026-01-02", "superseded"), ("2026-01-01", "published"))
    )

    card = run_card(scored.warehouse, run.run_id, LINK)

    assert card.startswith("# card-risk 2026-01-02 → 01-03: ✓ published")
    assert "| 250 | 248 | 2 | 0 | 2 of 2 |" in card
    assert f"**Supersedes run** [{old.run_id[:8]}](/runs/flow-run/{old.flow_run_id})" in card
    assert f"run [{before.run_id[:8]}](/runs/flow-run/{before.flow_run_id})" in card
    assert re.search(r"\*\*PSI \d\.\d{3}: .*; median 0\.\d+ → 0\.\d+\*\*", card)
    assert "## Validations: 1 quarantined, 1 noted, 3 passed" in card
    assert card.index("⚠ quarantined") < card.index("✓ passed")
    assert len(re.findall(r"^\| \*\*(extract|validate|score|load)\*\* \|", card, re.MULTILINE)) == 1
    assert "## Earlier runs of this interval" in card
    [picture] = re.findall(r"data:image/svg\+xml;base64,([^)]+)\)", card)
    assert "the run before" in base64.b64decode(picture).decode()


def test_a_halted_runs_card_begins_with_what_halted_it(scored: Place) -> None:
    card = run_card(scored.warehouse, of(scored, "2026-01-03", "halted").run_id)

    assert card.startswith("# card-risk 2026-01-03 → 01-04: ✗ halted\n\n> `card-risk`")
    assert "Nothing was published" in card
    assert "| ✗ **halted** | 100 of 250 | volume: quarantine_limit, critical<br>40.0% were refused" in card
    assert "](/" not in card  # nobody said where flow runs are seen
    assert "## Scores" in card  # its rows are loaded, and a person may accept it


def test_the_card_in_prefect_links_to_flow_runs(scored: Place, prefect_api: str) -> None:
    from prefect.client.orchestration import get_client

    run = of(scored, "2026-01-02", "superseded")
    with get_client(sync_client=True) as client:
        asked = {"artifacts": {"flow_run_id": {"any_": [run.flow_run_id]}, "key": {"any_": ["run-card-card-risk"]}}}
        [artifact] = client.request("POST", "/artifacts/filter", json=asked).json()

    assert f"- [Flow run](../../runs/flow-run/{run.flow_run_id})" in artifact["data"]


def test_the_seconds_of_partitions_are_added_up_and_their_retries_named(scored: Place) -> None:
    run = of(scored, "2026-01-01", "published")
    seconds = json.dumps({"extract": 1.0, "score": 4.0})
    with scored.warehouse.writing() as connection:
        mine = partitions.c.run_id == run.run_id
        connection.execute(sa.update(partitions).where(mine).values(seconds=seconds))
        connection.execute(sa.update(partitions).where(mine, partitions.c.partition == 1).values(attempts=2))

    steps = {step.step: step for step in read_document(scored.warehouse, run).steps}
    card = run_card(scored.warehouse, run.run_id)

    assert (steps["score"].seconds, steps["score"].share, steps["score"].rows_per_second) == (8.0, 0.8, 250 / 8)
    assert "| **score** | **8.00** | **80%** | **31** |" in card
    assert "Partitions that needed another try: 2 (2 attempts)." in card


def tell(*arguments: str) -> Any:
    from penstock.cli.app import app

    told = CliRunner().invoke(app, arguments)
    assert told.exit_code == 0, told.output
    return told.stdout


def test_the_command_line_tells_the_same_as_the_card(scored: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_UI_URL", "https://flows.example/")
    run, old = of(scored, "2026-01-02", "published"), of(scored, "2026-01-02", "superseded")

    page, details = tell("show", run.run_id), json.loads(tell("show", run.run_id, "--json"))
    old_page = tell("show", old.run_id)

    facts = read_document(scored.warehouse, run)
    assert facts.shift is not None
    assert details["score_shift"]["psi"] == details["psi"] == facts.shift.psi
    assert f"PSI {facts.shift.psi:.3f}" in page
    assert f"Supersedes run {old.run_id[:8]}" in page
    assert [earlier["run_id"] for earlier in details["earlier_runs"]] == [old.run_id]
    assert details["flow_run_link"] == f"https://flows.example/runs/flow-run/{run.flow_run_id}"
    assert f"Superseded by run {run.run_id[:8]}" in old_page
    assert max(map(len, page.splitlines())) <= 100


def test_card_and_page_have_the_same_sections_with_the_same_texts(scored: Place) -> None:
    run = of(scored, "2026-01-02", "published")

    card = run_card(scored.warehouse, run.run_id)
    page = " ".join(tell("show", run.run_id).split())

    titles = [line.lstrip("# ") for line in card.splitlines() if line.startswith("#")]
    assert titles[1:] == [
        "Validations: 1 quarantined, 1 noted, 3 passed",
        "Quarantine",
        "Scores",
        "Seconds by step, all partitions added up",
        "Earlier runs of this interval",
    ]
    places = [page.index(title) for title in titles[1:]]
    assert places == sorted(places)
    lines = [line.removeprefix("- ") for line in card.splitlines() if line and line[0] not in "#|!"]
    lines.remove(f"Flow run `{run.flow_run_id}`")  # the page has its address
    assert len(lines) > 8
    for line in lines:
        assert line.replace("**", "") in page or re.sub(r"[*`]", "", line) in page


def test_json_of_a_run_holds_the_document_and_the_keys_of_the_version_before(scored: Place) -> None:
    run, old = of(scored, "2026-01-02", "published"), of(scored, "2026-01-02", "superseded")

    details, old_details = (json.loads(tell("show", each.run_id, "--json")) for each in (run, old))
    listed = json.loads(tell("runs", "card-risk", "--json"))

    assert old_details["replaced_by_run_id"] == old_details["replaced_by"]["run_id"] == run.run_id
    assert set(listed[0]) < set(details)
    assert details["outcomes"] == {"quarantined": 1, "noted": 1, "passed": 3}
    [refused] = [v for v in details["validations"] if v["outcome"] == "quarantined"]
    assert (refused["unexpected"], refused["evaluated"], refused["unit"], refused["released"]) == (2, 250, "rows", 0)
    assert refused["detail"] == "2 of 250 rows"
    assert details["refusals"] == [{"stage": "payments", "reasons": [refused["expectation"]], "rows": 2}]
    assert details["quarantine"] == [{"stage": "payments", "reasons": refused["expectation"], "rows": 2}]
    assert {s["step"]: round(s["seconds"], 4) for s in details["steps"]} == details["step_seconds"]


def test_runs_of_one_pipeline_are_listed_with_the_shift_of_their_scores(scored: Place) -> None:
    table, objects = tell("runs", "card-risk"), json.loads(tell("runs", "card-risk", "--json"))

    assert "PSI" in table.splitlines()[0]
    assert max(map(len, table.splitlines())) <= 100
    assert [run["psi"] is None for run in objects] == [False, False, False, True]
    assert objects[0]["flow_run_link"].endswith(f"/runs/flow-run/{objects[0]['flow_run_id']}")


def test_the_card_leads_to_the_refused_rows(scored: Place) -> None:
    run = of(scored, "2026-01-02", "published")

    card, page = run_card(scored.warehouse, run.run_id), tell("show", run.run_id)
    rows = tell("quarantine", "show", run.run_id[:8])

    assert "Keys of the rows: `251`, `252`." in card
    assert f"with `penstock quarantine show {run.run_id[:8]}`." in card
    assert "Keys of the rows: 251, 252." in page
    assert '{"payment_id": 251}' in rows
    halted = of(scored, "2026-01-03", "halted")
    assert "Keys of the rows: `501`, `502`, `503`, `504`, `505` and 95 more." in run_card(
        scored.warehouse, halted.run_id
    )


def test_private_keys_are_on_no_card(
    make_place: Callable[..., Place], prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_PRIVATE_KEY", "a secret of more than sixteen characters")
    private = SPEC.replace("key: [payment_id]", "key: [payment_id]\n    private: {payment_id: hash}")
    place = make_place(spec=private)
    change(place.shop, "update payments set amount = null where payment_id in (1, 2)")
    run_score(place, end="2026-01-02")
    run = of(place, "2026-01-01", "published")

    card, page = run_card(place.warehouse, run.run_id), tell("show", run.run_id)

    assert "| 2 | payments |" in card
    for text in (card, page):
        assert "Keys of the rows" not in text
        assert "hash:" not in text
        assert f"penstock quarantine show {run.run_id[:8]}" in text
    assert json.loads(tell("show", run.run_id, "--json"))["refused_keys"] == []


def test_an_aggregate_shows_what_it_observed(scored: Place) -> None:
    """The limit stands in the expectation. `0 of 250` beside a halt would say nothing."""
    run = of(scored, "2026-01-01", "published")
    with scored.warehouse.writing() as connection:
        of_run = (validations.c.run_id == run.run_id) & validations.c.expectation.like("%mean%")
        connection.execute(sa.update(validations).where(of_run).values(outcome="halted"))

    card, page = run_card(scored.warehouse, run.run_id).replace("<br>", " "), tell("show", run.run_id)

    limit = r"scores: score column_mean_to_be_between \(min_value=0.0001, max_value=0.9999\),"
    assert re.search(rf"\| ✗ \*\*halted\*\* \| observed 0\.\d+ \| {limit}", card)
    assert re.search(r"halted +observed 0\.\d+ ", page)
    assert "0 of 250 values" not in card + page


def test_no_line_of_a_cards_table_is_too_long_for_a_page_that_does_not_wrap(scored: Place) -> None:
    run = of(scored, "2026-01-03", "halted")
    with scored.warehouse.writing() as connection:
        names = {"expectation": f"country {'in_set ' * 30}", "observed": f"{'observed ' * 40}{'x' * 200}"}
        connection.execute(sa.update(validations).where(validations.c.run_id == run.run_id).values(**names))

    card = run_card(scored.warehouse, run.run_id)

    rows = [line for line in card.splitlines() if line.startswith("|")]
    assert max(len(part) for row in rows for cell in row.split(" | ") for part in cell.split("<br>")) <= 64


def test_the_histogram_has_its_bins_in_words(scored: Place) -> None:
    card = run_card(scored.warehouse, of(scored, "2026-01-02", "published").run_id)

    [words] = re.findall(r"!\[([^\]]*)\]\(data:", card)
    now, before = words.split(" The run before: ")
    assert now.startswith("Score histogram of this run: ")
    for text in (now, before):
        assert 98 <= sum(int(share) for share in re.findall(r"(\d+)% from 0\.\d+ to 0\.\d+", text)) <= 102
