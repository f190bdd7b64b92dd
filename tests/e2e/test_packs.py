"""Each domain pack, small, from its generator to its last incident, and held to what its generator says of it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    log_loss,
    mean_absolute_error,
    ndcg_score,
    roc_auc_score,
    root_mean_squared_error,
)

from penstock import Project, RunRecord, SettingsError
from penstock.cli.demo.operator import lasting_alerts, measure_models
from penstock.cli.opening import connector
from penstock.database.connections import close_engines
from penstock.deployments.deploy.specs import load_specs
from penstock.examples.card_fraud.train import learned_rows as learned_payments
from penstock.examples.judging import Numbers
from penstock.examples.pack import Incident, Made, Pack, Size, open_pack, pack_names
from penstock.examples.project import SHIPPED, inside, newest_end, write_pipelines, write_settings, write_size
from penstock.examples.readmission.evaluate import judge_generated as judge_stays
from penstock.examples.scenario import (
    Act,
    Followed,
    Measured,
    departure,
    follow_labels,
    list_live,
    missed,
    play,
    see,
)
from penstock.labels.performance import list_judged_runs, measure_as_of
from penstock.ledger.pointer_moves import find_scored_by
from penstock.ledger.profiles import read_profiles
from penstock.ledger.tables import quarantine
from penstock.models.manifest import Manifest
from penstock.models.measuring import collect_and_measure, make_question
from penstock.privacy.masking import make_masking
from penstock.promotion.evidence import EvidenceReader
from penstock.promotion.specs import find_promoting
from penstock.settings import Settings
from penstock.spec.yaml_file import load_pipeline
from penstock.upkeep.acceptance import accept_run
from penstock.upkeep.live_changes import publish_with_rows
from penstock.upkeep.verify import verify_ledger
from tests.driver import Driver

pytestmark = pytest.mark.packs

NOW = datetime(2026, 6, 10, 14, 30, tzinfo=UTC)
FAR = NOW + timedelta(days=40)
"""When every label of the packs has been seen."""
LATER = NOW + timedelta(hours=2)
"""When the story is played: a shift that the world does not fill is due by then, and no run may take it in."""


@dataclass(frozen=True)
class Played:
    """A pack whose story is over; its folder is the working folder."""

    pack: Pack
    project: Project
    size: Size
    made: Made
    manifests: tuple[Manifest, ...]
    acts: tuple[Act, ...]
    ran: Mapping[str, tuple[RunRecord, ...]]
    """By pipeline: all runs, before a challenger was promoted."""
    followed: tuple[Followed, ...]


def open_driver(project: Project, name: str) -> Driver:
    pipeline = project.load_pipeline(name)
    return Driver(pipeline, project.connect, project.registry, masking=make_masking(pipeline, project.settings))


@dataclass(frozen=True)
class Hand:
    """An operator without Prefect and without a command line."""

    project: Project

    def run(self, pipeline: str, end: datetime, incident: Incident | None) -> None:
        open_driver(self.project, pipeline).run(LATER, end=end)

    def accept(self, run_id: str, reason: str) -> None:
        accept_run(self.project.connect("warehouse"), run_id, "Ada", reason)

    def collect_labels(self, pipeline: str, now: datetime) -> None:
        drive = open_driver(self.project, pipeline)
        collect_and_measure(drive.pipeline, self.project.settings, drive.does.connect, drive.registry, now)

    def show_performance(self, pipeline: str, now: datetime) -> None:
        pass

    def list_alerts(self, pipeline: str) -> Mapping[str, str]:
        return lasting_alerts(self.project.connect("warehouse"), pipeline)

    def measure(self, pipeline: str) -> list[Measured]:
        return measure_models(self.project.connect("warehouse"), pipeline)

    def failures(self, model: str) -> tuple[str, ...]:
        """Return what the challenger lacks for the pack's own `promotion:`, by the labels of the last collection."""
        project = self.project
        promoting = find_promoting(project.settings.pipelines, model)
        reader = EvidenceReader(promoting, project.settings, connector(project.settings), project.registry)
        champion = project.registry.resolve(f"{model}@{promoting.alias}")
        candidate = project.registry.resolve(promoting.candidate)
        return reader.gather(champion, candidate, FAR).failures

    def promote(self, pipeline: str, model: str, reason: str) -> None:
        warehouse = self.project.connect("warehouse")
        name, _, version = model.partition("/")
        assert self.failures(name) == ()
        found = find_scored_by(warehouse, pipeline, name, version, None, None)
        publish_with_rows(warehouse, [run.run_id for run in found], "Ada", reason)
        self.project.registry.promote(name, version, "champion", by="Ada", note=reason)


def size_of(pack: Pack) -> Size:
    return Size(pack.small.rows, pack.small.days, 7, pack.small.dirty, newest_end(pack, NOW))


@pytest.fixture(scope="module", params=pack_names())
def played(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    pack = open_pack(request.param)
    size, folder = size_of(pack), tmp_path_factory.mktemp(request.param)
    write_settings(folder, [pack])
    with inside(folder) as project:
        write_pipelines(pack, size)
        write_size(pack, size)
        made = pack.make(project, size)
        manifests = pack.train(project, size)
        acts = tuple(play(project, pack, size, Hand(project)))
        ran = {name: tuple(project.list_runs(project.load_pipeline(name), 1000)) for name in pack.pipelines}
        followed = tuple(follow_labels(project, pack, size, Hand(project)))
        yield Played(pack, project, size, made, manifests, acts, ran, followed)
        close_engines()


def test_every_act_goes_as_the_pack_announces(played: Played) -> None:
    assert [departure(act) for act in played.acts] == [None] * len(played.acts)


def test_a_gate_catches_a_schema_change_a_broken_upstream_and_a_drift(played: Played) -> None:
    caught = {act.incident.kind for act in played.acts if act.incident and act.incident.outcome != "restated"}

    assert caught >= {"schema", "upstream", "drift"}


def test_readers_see_exactly_what_the_generator_made_less_what_it_spoiled(played: Played) -> None:
    for name in played.pack.pipelines:
        pipeline = played.project.load_pipeline(name)
        live = [run for run in list_live(played.project, pipeline) if run.state == "published"]
        refused, excluded = played.made.refused.get(name, 0), played.made.excluded.get(name, 0)

        assert sum(run.rows_extracted or 0 for run in live) == played.made.to_score[name]
        assert sum(run.rows_quarantined or 0 for run in live) == refused
        assert sum(run.rows_excluded or 0 for run in live) == excluded
        assert see(played.project, pipeline).rows == played.made.to_score[name] - refused - excluded
        assert len(live) == (played.pack.scored if pipeline.interval else 1)


def test_every_refused_row_is_kept_with_its_reasons(played: Played) -> None:
    for name in played.pack.pipelines:
        pipeline = played.project.load_pipeline(name)
        warehouse = played.project.connect(pipeline.destination.connection)
        live = [run.run_id for run in list_live(played.project, pipeline) if run.state == "published"]
        of_primary = (quarantine.c.run_id.in_(live), quarantine.c.source == pipeline.primary)
        kept = sa.select(sa.func.count()).where(*of_primary, quarantine.c.reasons != "[]")
        with warehouse.reading() as connection:
            assert connection.execute(kept).scalar_one() == played.made.refused.get(name, 0)


def test_rows_that_are_set_aside_hold_no_private_value(played: Played) -> None:
    for name in played.pack.pipelines:
        pipeline = played.project.load_pipeline(name)
        with played.project.connect(pipeline.destination.connection).reading() as connection:
            kept = [json.loads(row) for row in connection.execute(sa.select(quarantine.c.row)).scalars()]

        private = pipeline.private_columns
        held = {(column, str(value)) for row in kept for column, value in row.items() if column.lower() in private}
        hashed = {column.lower() for column, value in held if value.startswith("hash:") or value == "None"}
        assert hashed == {column.lower() for column, _ in held}
        assert hashed <= {column for column, how in private.items() if how == "hash"}
        assert bool(held) == bool(private)


def test_models_are_better_than_a_guess(played: Played) -> None:
    assert {manifest.name for manifest in played.manifests} == {
        step.model.name for name in played.pack.pipelines for step in played.project.load_pipeline(name).steps
    }
    for manifest in played.manifests:
        assert manifest.metrics
        assert manifest.trained_until is None or manifest.trained_until < played.size.until


def test_notes_of_nurses_make_the_model_better(played: Played) -> None:
    if played.pack.name != "readmission":
        pytest.skip("only this pack has notes")
    [judged] = judge_stays(played.project, played.size).values()
    figures = {each.name: each.figures["auc"] for each in judged}

    assert figures["model"] > figures["model without the notes"] + 0.02


def test_letters_of_customers_come_before_the_frauds_that_they_warn_of(played: Played) -> None:
    if played.pack.name != "card-fraud":
        pytest.skip("only this pack has letters")
    rows = learned_payments(played.project, played.size).to_pandas()
    share = rows.groupby("says_phished")["fraud"].mean()

    assert share[True] > 10 * share[False]


def test_follow_ups_of_the_labels_go_as_the_pack_announces(played: Played) -> None:
    assert [missed(each) for each in played.followed] == [None] * len(played.followed)


def test_labels_come_in_over_days_and_in_the_end_judge_every_published_row(played: Played) -> None:
    for name in played.pack.pipelines:
        pipeline, labelled, scored = played.project.load_pipeline(name), [], 0
        warehouse = played.project.connect(pipeline.destination.connection)
        for after in played.pack.labels_after:
            now = played.size.until + after
            question = make_question(pipeline, played.project.settings, played.project.registry, now, as_of=now)
            judged = measure_as_of(warehouse, list_judged_runs(warehouse, name), question)
            labelled.append(sum(each.all_rows.labelled for each in judged))
            scored = sum(each.all_rows.scored for each in judged)
        assert labelled[0] < labelled[-1] == scored
        assert labelled == sorted(labelled)
    assert played.pack.deliver_labels(played.project, played.size) == 0


def test_performance_of_each_variant_is_what_scikit_learn_computes_of_its_rows(played: Played) -> None:
    for name in played.pack.pipelines:
        for measured in Hand(played.project).measure(name):
            scores, labels, groups = read_judged(played, name, measured)
            for metric, expected in expect_metrics(played, name, scores, labels, groups).items():
                assert measured.metrics[metric] == pytest.approx(expected, abs=1e-6, rel=1e-6), (name, measured, metric)


def read_judged(played: Played, name: str, measured: Measured) -> tuple[Numbers, Numbers, list[str]]:
    """Read the rows of a variant's published runs with their labels, without Penstock's own join."""
    pipeline, where = played.project.load_pipeline(name), played.pack.labels[name]
    live = list_judged_runs(played.project.connect("warehouse"), name)
    runs = [run.run_id for run in live if (run.variant, run.model) == (measured.variant, measured.model)]
    table, key = pipeline.destination.table, ", ".join(pipeline.key)
    of_runs = ", ".join(f"'{run}'" for run in runs)
    query = f"select {key}, {where.score} as score from {table}__history where run_id in ({of_runs})"
    rows = played.project.query("warehouse", query).to_pandas()
    known = played.project.query(where.connection, f"select {key}, {where.column} as label from {where.table}")
    labels = known.to_pandas()
    for column in {"hour", "shift"} & set(pipeline.key):
        rows[column], labels[column] = (pd.to_datetime(each[column], utc=True) for each in (rows, labels))
    joined = rows.merge(labels, on=list(pipeline.key))
    groups = joined[list(where.group)].astype(str).agg("|".join, axis=1).tolist() if where.group else []
    return joined["score"].to_numpy(float), joined["label"].to_numpy(float), groups


def expect_metrics(played: Played, name: str, scores: Numbers, labels: Numbers, groups: list[str]) -> dict[str, float]:
    if groups:
        places = [np.flatnonzero(np.array(groups) == group) for group in dict.fromkeys(groups)]
        relevant = [at for at in places if labels[at].any()]
        return {"ndcg": float(np.mean([ndcg_score([labels[at]], [scores[at]]) for at in relevant]))}
    if played.pack.labels[name].metric == "mae":
        return {
            "mae": mean_absolute_error(labels, scores),
            "rmse": root_mean_squared_error(labels, scores),
            "bias": float(np.mean(scores - labels)),
        }
    return {
        "auc": roc_auc_score(labels, scores),
        "pr_auc": average_precision_score(labels, scores),
        "log_loss": log_loss(labels, scores),
        "brier": brier_score_loss(labels, scores),
    }


def test_challengers_score_the_rows_of_the_champion(played: Played) -> None:
    for name in played.pack.pipelines:
        runs = {run.run_id: run for run in played.ran[name]}
        shadows = [run for run in runs.values() if run.champion_run_id and run.state == "published"]
        assert bool(shadows) == bool(played.project.load_pipeline(name).challengers)
        for run in shadows:
            champion = runs[run.champion_run_id or ""]
            assert (run.rows_extracted, run.rows_scored) == (champion.rows_extracted, champion.rows_scored)
            assert run.model != champion.model
            assert run.spec_fingerprint == played.project.load_pipeline(name).for_challengers.fingerprint


def test_each_pack_watches_drift_in_every_live_run(played: Played) -> None:
    watched = [name for name in played.pack.pipelines if played.project.load_pipeline(name).drift]
    assert watched
    for name in watched:
        for run in played.ran[name]:
            if (run.state, run.variant) == ("published", "live"):
                assert read_profiles(played.project.connect("warehouse"), run.run_id)


def test_rows_that_the_spec_chooses_have_reasons(played: Played) -> None:
    for name in played.pack.pipelines:
        if played.project.load_pipeline(name).reasons is None:
            continue
        live = [run for run in played.ran[name] if (run.state, run.variant) == ("published", "live")]
        assert sum(run.rows_explained or 0 for run in live) > 0
        assert sum(run.rows_over_budget or 0 for run in live) == 0


def test_ledger_has_no_fault_in_the_end(played: Played) -> None:
    assert verify_ledger(played.project.connect("warehouse")) == ()


@pytest.mark.parametrize("name", pack_names())
def test_same_size_makes_the_same_world(name: str, tmp_path: Path) -> None:
    first, second = (make_world(open_pack(name), tmp_path / folder) for folder in ("one", "two"))

    assert first == second


def make_world(pack: Pack, folder: Path) -> tuple[Made, dict[str, bytes], dict[tuple[str, str], list[Any]]]:
    """Make a pack's world in a new folder; return what was told of it, its files, and the rows of its tables."""
    folder.mkdir()
    write_settings(folder, [pack])
    close_engines()  # a SQLite file's name is relative to the folder
    with inside(folder) as project:
        made = pack.make(project, size_of(pack))
        files = {
            str(p): p.read_bytes()
            for p in sorted(Path().rglob("*"))
            if p.is_file() and p.name != ".env" and p.suffix != ".db"
        }
        rows = {}
        for name in pack.connections:
            with project.connect(name).reading() as connection:
                for table in sa.inspect(connection).get_table_names():
                    rows[name, table] = list(connection.execute(sa.text(f'select * from "{table}"')))
        close_engines()
    return made, files, rows


@pytest.mark.parametrize("name", pack_names())
def test_pack_ships_its_pipelines_its_page_and_two_intervals_to_score(name: str) -> None:
    pack = open_pack(name)
    shipped = {spec.name for spec in load_specs(Settings(_env_file=None, pipelines=SHIPPED), None).values()}

    assert set(pack.pipelines) <= shipped
    assert {incident.pipeline for incident in pack.incidents} <= set(pack.pipelines)
    assert pack.scored >= 2
    assert (SHIPPED.parents[1] / "examples" / name.replace("-", "_") / "README.md").is_file()


@pytest.mark.parametrize("name", pack_names())
def test_each_pack_declares_drift_a_challenger_labels_and_a_promotion(name: str) -> None:
    specs = [load_pipeline(SHIPPED / f"{pipeline}.yaml") for pipeline in open_pack(name).pipelines]

    assert any(spec.drift and spec.challengers and spec.labels and spec.promotion for spec in specs)
    assert all(spec.labels for spec in specs)
    assert any(spec.reasons for spec in specs) == (name in ("card-fraud", "readmission"))


def test_a_world_too_small_to_learn_from_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    pack = open_pack("demand")
    write_settings(tmp_path, [pack])
    with inside(tmp_path) as project, pytest.raises(SettingsError, match=r"at least 300 rows and 49 days"):
        pack.make(project, Size(2_000, 14, 7, 0.0, newest_end(pack, NOW)))

    assert [file.name for file in tmp_path.iterdir()] == [".env"]


def test_a_pack_that_does_not_exist_is_refused_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match=r"Did you mean `card-fraud`\?"):
        open_pack("card-frauds")
