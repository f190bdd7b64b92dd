"""Sandboxes: a changed pipeline is scored beside production, and production is the same afterwards, to the byte."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from penstock import Project
from penstock.cli.app import app
from penstock.errors import CompareRefused, PublishRefused, SandboxRefused, SettingsError
from penstock.ledger.paired_runs import find_pairs
from penstock.ledger.pointer_moves import find_scored_by, list_versions
from penstock.ledger.quarantine import quarantined_rows
from penstock.ledger.reader import RunRecord, list_runs
from penstock.ledger.releases import pending_releases, release_rows
from penstock.ledger.sandboxes import list_sandboxes
from penstock.ledger.tables import runs
from penstock.models.training import train
from penstock.privacy.masking import NO_MASKING
from penstock.privacy.row_key import RowKey
from penstock.settings import load_settings
from penstock.spec.sandbox import as_sandbox
from penstock.spec.yaml_file import load_pipeline, parse_pipeline
from penstock.tasks.process_resources import connect
from penstock.upkeep.erasure import ErasureRequest, erase
from penstock.upkeep.live_changes import publish_with_rows
from penstock.upkeep.prune import prune
from penstock.upkeep.prune_plan import plan_prune
from penstock.upkeep.rename import rename_pipeline
from penstock.upkeep.sandboxes import end_sandbox
from penstock.upkeep.verify import verify_ledger
from tests.conftest import DIALECTS, view_rows
from tests.driver import Driver, lapse_leases
from tests.shop import COUNTRIES, SPEC, START, Place, payments, train_model

END = START + timedelta(days=3)
VIEW = "card_risk_scores__sandbox_lower"
NEWEST = END - timedelta(days=1)
LEDGER = ("penstock_source_columns", "penstock_moves", "penstock_profiles", "penstock_log_sources")


@dataclass
class Shop:
    """A place whose pipeline has scored three days."""

    place: Place

    def sandbox(self, changed: str = SPEC, name: str = "lower") -> Driver:
        return Driver(as_sandbox(parse_pipeline(changed.encode(), "draft.yaml"), name), connect, self.place.registry)

    def production(self) -> Driver:
        return Driver(load_pipeline(self.place.spec), connect, self.place.registry)

    def runs(self, variant: str) -> list[RunRecord]:
        """Return the runs of a variant, the oldest interval first."""
        found = [run for run in list_runs(self.place.warehouse, limit=1000) if run.variant == variant]
        return sorted(found, key=lambda run: (run.interval_key, run.started_at))

    def read(self, query: str) -> list[tuple[Any, ...]]:
        with self.place.warehouse.reading() as connection:
            return [tuple(row) for row in connection.execute(sa.text(query))]

    def production_state(self) -> list[Any]:
        """Return all that readers and the next run of production depend on."""
        live = [run for run in self.runs("live") if run.state != "abandoned"]
        tables = [sorted(self.read(f"select * from {name}"), key=str) for name in LEDGER]
        history = sorted(self.read("select * from card_risk_scores__history"), key=str)
        return [live, view_rows(self.place.warehouse), history, *tables]

    def verify(self) -> None:
        assert verify_ledger(self.place.warehouse) == ()


@pytest.fixture
def shop(make_place: Callable[..., Place], request: pytest.FixtureRequest) -> Shop:
    dialect = getattr(request, "param", "sqlite")
    place = Shop(make_place(dialect, dialect, PRODUCTION))
    place.production().run(END)
    return place


PRODUCTION = SPEC + "decide: {level: items}\n"
QUERY = "select payment_id, amount * 2 as amount, items, country, first from payments"
CHANGED = SPEC.replace("keep: [amount, country]}", f"keep: [items]}}\nfeatures: {QUERY}") + (
    "decide: {decision: \"case when score > 0.5 then 'block' else 'pass' end\", level: country}\n"
)
"""Another features query, another output, and another type of the stored column `level`."""


@pytest.mark.parametrize("shop", DIALECTS, indirect=True)
def test_a_sandbox_scores_beside_production_and_changes_nothing_of_it(shop: Shop) -> None:
    before = shop.production_state()

    shop.sandbox(CHANGED).run(END, "backfill", START, END)

    assert shop.production_state() == before
    tried = shop.runs("sandbox:lower")
    assert [run.state for run in tried] == ["published"] * 3
    assert {run.destination_table for run in tried} == {VIEW}
    shown = shop.read(f"select payment_id, decision, level from {VIEW}")
    assert len(shown) == sum(run.rows_scored or 0 for run in tried)
    assert {(row[1] in ("block", "pass"), row[2] in COUNTRIES) for row in shown} == {(True, True)}
    shop.verify()
    assert "published already" not in shop.production().run(END)
    assert shop.production_state() == before


def test_without_a_range_a_sandbox_scores_the_newest_interval_and_then_nothing(shop: Shop) -> None:
    shop.sandbox().run(END)
    assert [run.interval_start for run in shop.runs("sandbox:lower")] == [NEWEST]

    assert shop.sandbox().run(END) == ["resolve", "collect logs", "plan"]

    shop.sandbox(name="other").run(END)
    assert len(shop.runs("sandbox:other")) == 1
    shop.verify()


def test_late_rows_are_scored_again_in_the_sandbox_alone(shop: Shop) -> None:
    shop.sandbox().run(END)
    production = shop.runs("live")
    with shop.place.shop.writing() as connection:
        connection.execute(sa.text("update payments set amount = amount + 1, updated_at = :at"), {"at": "2026-02-01"})

    shop.sandbox().run(END)

    assert [run.state for run in shop.runs("sandbox:lower")] == ["superseded", "published"]
    assert shop.runs("live") == production
    assert "publish" in shop.production().run(END)  # production has not taken the late rows for scored
    shop.verify()


@pytest.mark.parametrize("shop", DIALECTS, indirect=True)
def test_two_runs_of_a_sandbox_exclude_each_other_and_nothing_else(shop: Shop) -> None:
    first = shop.sandbox().steps(END)
    while next(first) != "claim":
        pass

    assert shop.sandbox().run(END)[-1] == "busy"
    assert shop.sandbox(name="other").run(END)[-1] == "publish"
    assert shop.production().run(END, "restate", NEWEST, END)[-1] == "publish"

    assert list(first)[-1] == "publish"
    assert [run.state for run in shop.runs("sandbox:lower")] == ["published"]
    shop.verify()


def test_a_killed_run_of_a_sandbox_is_taken_over_by_its_next_one(shop: Shop) -> None:
    before = shop.production_state()
    steps = shop.sandbox(name="undisturbed").run(END)
    for after in range(steps.index("claim") + 1, len(steps)):
        shop.sandbox().kill(END, after)
        lapse_leases(shop.place.warehouse)
        assert shop.production().run(END) == ["resolve", "collect logs", "plan"]

    shop.sandbox().run(END)

    killed = shop.runs("sandbox:lower")
    assert [run.state for run in killed] == ["abandoned"] * (len(killed) - 1) + ["published"]
    undisturbed = shop.read("select payment_id, score from card_risk_scores__sandbox_undisturbed order by 1")
    assert shop.read(f"select payment_id, score from {VIEW} order by 1") == undisturbed
    assert shop.production_state() == before
    shop.verify()


def test_a_sandbox_settles_no_release_and_scores_what_was_released(shop: Shop) -> None:
    dirty = "update payments set amount = -1 where payment_id = 600"
    with shop.place.shop.writing() as connection:
        connection.execute(sa.text(dirty))
    shop.production().run(END, "restate", NEWEST, END)
    [live] = [run for run in shop.runs("live") if run.rows_quarantined and run.state == "published"]
    warehouse = shop.place.warehouse
    release_rows(warehouse, live.run_id, quarantined_rows(warehouse, run_id=live.run_id), "Ada", "they are right")
    waiting = pending_releases(warehouse, "card-risk")

    shop.sandbox().run(END)

    assert shop.runs("sandbox:lower")[0].rows_quarantined == 0
    assert pending_releases(warehouse, "card-risk") == waiting != {}
    shop.production().run(END)
    assert pending_releases(warehouse, "card-risk") == {}
    shop.verify()


def test_what_a_person_does_to_live_runs_is_refused_for_those_of_a_sandbox(shop: Shop) -> None:
    shop.sandbox(SPEC.replace("min_value: 0, severity", "min_value: 10, severity") + "quarantine_limit: 1\n").run(END)
    [tried], warehouse = shop.runs("sandbox:lower"), shop.place.warehouse
    refused = quarantined_rows(warehouse, run_id=tried.run_id)
    assert refused
    assert quarantined_rows(warehouse, "card-risk") == []

    with pytest.raises(SettingsError, match="is of sandbox:lower"):
        release_rows(warehouse, tried.run_id, refused, "Ada", "they are right")
    with pytest.raises(PublishRefused, match=r"(?s)a sandbox scored them.*penstock run card-risk --restate"):
        publish_with_rows(warehouse, [tried.run_id], "Ada", "it is better")
    shop.verify()


def test_a_sandbox_has_neither_challengers_nor_drift(shop: Shop) -> None:
    beside = "challengers: [{model: card-risk@champion}]\ndrift: {against: model}\n"

    driver = shop.sandbox(SPEC + beside)

    assert (driver.pipeline.challengers, driver.pipeline.drift) == ((), None)
    assert driver.run(END)[-1] == "publish"


def test_a_draft_of_another_name_cannot_be_a_sandbox_of_the_table(shop: Shop) -> None:
    with pytest.raises(SandboxRefused, match=r"which belongs to `card-risk`.*Write `name: card-risk`"):
        shop.sandbox(SPEC.replace("name: card-risk", "name: card-risk-draft")).run(END)


def test_a_sandbox_ends_and_prune_removes_what_is_left(shop: Shop) -> None:
    shop.sandbox(CHANGED + "reasons: {when: score > 0.5, top: 2}\n").run(END, "backfill", START, END)
    before, warehouse = shop.production_state(), shop.place.warehouse
    assert shop.read(f"select count(*) from {VIEW}__reasons") != [(0,)]
    running = shop.sandbox().steps(END, "restate", NEWEST, END)
    while next(running) != "claim":
        pass
    with pytest.raises(SandboxRefused, match="cannot end, because run"):
        end_sandbox(warehouse, "card-risk", "lower")
    running.close()
    lapse_leases(warehouse)

    ended = end_sandbox(warehouse, "card-risk", "lower")

    assert (ended.tables, ended.runs) == ((VIEW,), 3)
    assert tables_of(shop, VIEW) == {f"{VIEW}__history", f"{VIEW}__reasons"}
    assert list_sandboxes(warehouse) == []
    shop.verify()
    assert end_sandbox(warehouse, "card-risk", "lower").runs == 0
    plan = plan_prune(warehouse, shop.production().pipeline, END)
    [gone] = prune(warehouse, plan)
    assert (gone.kind, gone.of, gone.rows) == ("sandbox", "lower", ended.rows)
    assert tables_of(shop, VIEW) == set()
    assert plan_prune(warehouse, shop.production().pipeline, END).sandboxes == ()
    assert {run.state for run in shop.runs("sandbox:lower")} == {"withdrawn", "abandoned"}
    assert all(run.rows_pruned_at for run in shop.runs("sandbox:lower"))
    assert shop.production_state() == before
    shop.verify()


@pytest.mark.parametrize("shop", DIALECTS, indirect=True)
@pytest.mark.parametrize("is_pruned", [False, True])
def test_an_ended_sandbox_may_begin_anew(shop: Shop, is_pruned: bool) -> None:
    shop.sandbox().run(END)
    end_sandbox(shop.place.warehouse, "card-risk", "lower")
    if is_pruned:
        prune(shop.place.warehouse, plan_prune(shop.place.warehouse, shop.production().pipeline, END))

    shop.sandbox().run(END)

    first, second = shop.runs("sandbox:lower")
    assert (first.state, second.state) == ("withdrawn", "published")
    assert shop.read(f"select count(*) from {VIEW}") == [(second.rows_scored,)]
    shop.verify()


@pytest.mark.parametrize("shop", DIALECTS, indirect=True)
def test_forget_rename_and_verify_reach_sandboxes(shop: Shop) -> None:
    shop.sandbox(CHANGED).run(END, "backfill", START, END)
    pipeline, warehouse = shop.production().pipeline, shop.place.warehouse
    [(key,)] = shop.read(f"select min(payment_id) from {VIEW}")

    counts = erase(warehouse, ErasureRequest(pipeline, RowKey({"payment_id": str(key)})), NO_MASKING, b"secret")

    assert (counts["card_risk_scores__history"], counts[f"{VIEW}__history"]) == (1, 1)
    shop.verify()
    rename_pipeline(warehouse, "card-risk", pipeline.model_copy(update={"name": "card-risk-2"}))
    assert [(each.pipeline, each.name) for each in list_sandboxes(warehouse)] == [("card-risk-2", "lower")]
    shop.verify()
    with warehouse.writing() as connection:
        wrong = sa.update(runs).where(runs.c.destination_table == VIEW)
        connection.execute(wrong.values(variant="sandbox:other"))
    broken = {violation.invariant for violation in verify_ledger(warehouse)}
    assert "a sandbox has a table of its own" in broken


def test_a_sandbox_lands_no_lines_and_reads_those_of_production(
    make_place: Callable[..., Place], tmp_path: Path
) -> None:
    log = tmp_path / "visits.log"
    lines = [{"time": f"2026-01-01T0{hour}:00:00Z", "amount": 20.5, "items": 2} for hour in range(9)]
    log.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    spec = LOGS.format(path=log)
    place = make_place(spec=spec)
    train_on_lines(place)
    shop = Shop(place)
    with pytest.raises(
        SandboxRefused, match=r"of `visits` that `visits` has landed, and there are none\. Run `penstock"
    ):
        shop.sandbox(spec).run(END)
    shop.production().run(END, "backfill", START, END)
    with log.open("a") as file:
        file.write(json.dumps(lines[0] | {"time": "2026-01-01T10:00:00Z"}) + "\n")

    shop.sandbox(spec).run(END, "backfill", START, START + timedelta(days=1))

    assert shop.runs("sandbox:lower")[0].rows_scored == len(lines)
    assert shop.production().run(END, "restate", START, START + timedelta(days=1))[-1] == "publish"
    assert [run.rows_scored for run in shop.runs("live") if run.state == "published"] == [len(lines) + 1]
    shop.verify()


def test_python_scores_and_reads_a_sandbox(shop: Shop) -> None:
    project = Project()
    pipeline = project.load_pipeline(str(shop.place.spec), sandbox="lower")
    [planned] = project.plan(pipeline, now=END).intervals

    result = project.score_interval(pipeline, planned)

    assert project.read_scores(pipeline).num_rows == result.scored == shop.runs("sandbox:lower")[0].rows_scored
    shop.verify()


def test_the_commands_name_the_sandbox(shop: Shop) -> None:
    decide = "decide: {decision: \"case when score > 0.5 then 'block' else 'pass' end\", level: items}\n"
    shop.place.spec.write_text(SPEC + decide)
    shop.production().run(END, "restate", NEWEST, END)
    shop.sandbox(CHANGED).run(END)
    [run] = shop.runs("sandbox:lower")
    spec = str(shop.place.spec)

    assert " sandbox:lower " in invoke("runs", spec)
    assert {line["variant"] for line in json.loads(invoke("runs", spec, "--json"))} == {"live", "sandbox:lower"}
    assert f"Sandbox lower: its scores stand in `{VIEW}`" in invoke("show", run.run_id)
    assert f"lower {VIEW}" in invoke("sandbox", "list", spec)
    compared = json.loads(invoke("monitor", "compare", spec, "champion", "sandbox:lower", "--json"))
    assert (compared["a"], compared["b"]) == ("live", "sandbox:lower")
    assert "lower" in invoke("status", spec)
    assert "1 run with 250 scores withdrawn" in invoke("sandbox", "end", spec, "lower", "--yes")
    assert "no sandboxes" in invoke("sandbox", "list", spec)
    assert "has no runs" in invoke("sandbox", "end", spec, "upper", "--yes")


def test_a_plan_of_a_sandbox_writes_nothing(shop: Shop) -> None:
    shown = invoke("run", str(shop.place.spec), "--sandbox", "lower", "--dry-run", "--start", "2026-01-01")

    assert "card-risk sandbox:lower would score" in shown
    assert shop.runs("sandbox:lower") == []
    assert "Take up to 20 lower-case letters and digits" in invoke(
        "run", str(shop.place.spec), "--sandbox", "New-Limit"
    )


@pytest.mark.usefixtures("prefect_api")
def test_the_real_flow_scores_a_sandbox_and_sends_no_event(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    from penstock.flows.score import score
    from penstock.tasks import events

    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(events, "emit_event", lambda **event: sent.append(event))
    draft = shop.place.spec.with_name("draft.yaml")
    draft.write_text(CHANGED)

    state = score(str(draft), start="2026-01-02", end="2026-01-04", mode="backfill", sandbox="lower", return_state=True)
    draft.write_text(CHANGED.replace("min_value: 10}", "min_value: 10000}"))
    halted = score(
        str(draft), start="2026-01-01", end="2026-01-02", mode="backfill", sandbox="lower", return_state=True
    )

    draft.write_text(CHANGED.replace(QUERY, "select payment_id, items, country from payments"))
    failed = score(
        str(draft), start="2026-01-01", end="2026-01-02", mode="backfill", sandbox="lower", return_state=True
    )

    assert state.is_completed(), state.message
    assert not halted.is_completed()
    assert failed.is_failed()
    assert [run.state for run in shop.runs("sandbox:lower")] == ["halted", "failed", "published", "published"]
    assert sent == []
    shop.verify()


def invoke(*arguments: str) -> str:
    return " ".join(CliRunner().invoke(app, arguments).output.split())


def tables_of(shop: Shop, beginning: str) -> set[str]:
    """Return the tables and views whose names begin so."""
    with shop.place.warehouse.reading() as connection:
        inspector = sa.inspect(connection)
        names = [*inspector.get_table_names(), *inspector.get_view_names()]
    return {name for name in names if name.startswith(beginning)}


LOGS = """
name: visits
interval: {{column: time, grain: 1d, start: 2026-01-01T00:00:00Z}}
sources:
  visits: {{kind: log, path: {path}, format: json, time: {{key: time}}, columns: {{amount: float, items: int}}}}
model: visits@champion
destination: {{connection: warehouse, table: card_risk_scores}}
"""


def train_on_lines(place: Place) -> None:
    rows = payments(days=2, a_day=100, seed=9)
    label = pa.array((rows["amount"].to_numpy() > 20).astype(int))
    frame = rows.select(["amount", "items"]).append_column("label", label)
    train(frame, "label", rounds=2).register(place.registry, "visits", alias="champion")


def test_explain_lists_the_scores_of_a_sandbox_as_its_own(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shop.sandbox(CHANGED).run(END, "backfill", START, END)
    spec = str(shop.place.spec)
    [(key,)] = shop.read(f"select min(payment_id) from {VIEW}")

    told = json.loads(invoke("explain", spec, str(key), "--json"))

    assert told["run"]["variant"] == "live"
    [other] = told["others"]
    assert other["variant"] == "sandbox:lower"
    assert other["columns"]["decision"] in ("block", "pass")
    assert "sandbox:lower" in invoke("explain", spec, str(key))


def test_a_version_that_only_a_sandbox_scored_is_named_by_the_sandbox(shop: Shop) -> None:
    train_model(load_settings().models_folder, alias="tried", rounds=3)
    shop.sandbox(SPEC.replace("card-risk@champion", "card-risk@tried")).run(END)
    [tried], warehouse = shop.runs("sandbox:lower"), shop.place.warehouse
    assert tried.model == "card-risk/2"

    assert list_versions(warehouse, "card-risk") == ["card-risk/1"]
    assert find_scored_by(warehouse, "card-risk", "card-risk", "2", None, None) == []
    with pytest.raises(CompareRefused, match=r"only sandbox:lower scored with this version\. Name sandbox:lower"):
        find_pairs(warehouse, "card-risk", "champion", "card-risk/2", None, None)
    [pair] = find_pairs(warehouse, "card-risk", "champion", "sandbox:lower", None, None).pairs
    assert pair.b.run_id == tried.run_id
