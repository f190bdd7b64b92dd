"""A project in Python scores as the flow does: same ledger, same lease, every interval once."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy as sa

from penstock import (
    Destination,
    Expectation,
    FeaturesError,
    FilesSource,
    Halted,
    IntervalBusy,
    IntervalSpec,
    ModelRef,
    Pipeline,
    Project,
    ScoreStep,
    Settings,
    SettingsError,
    SourceError,
    apply_features,
)
from tests.conftest import DIALECTS
from tests.driver import lapse_leases
from tests.shop import START, Place, payments_table

DAY = timedelta(days=1)
NOW = START + 3 * DAY


@pytest.mark.parametrize("warehouse", DIALECTS)
def test_a_project_publishes_what_is_due_once(warehouse: str, make_place: Callable[..., Place]) -> None:
    place = make_place(warehouse=warehouse)
    project = Project()
    pipeline = project.load_pipeline(place.spec)

    results = [project.score_interval(pipeline, planned) for planned in project.plan(pipeline, now=NOW).intervals]

    assert [(each.state, each.extracted, each.scored, each.quarantined) for each in results] == [
        ("published", 250, 250, 0)
    ] * 3
    assert project.plan(pipeline, now=NOW).intervals == ()
    assert [run.state for run in project.list_runs(pipeline)] == ["published"] * 3
    scores = project.read_scores(pipeline)
    assert scores["payment_id"].to_pylist() == list(range(1, 751))
    assert scores.schema.field("interval_start").type == pa.timestamp("us", "UTC")
    assert scores.slice(250, 250).equals(results[1].to_arrow())
    assert scores.slice(250, 250).equals(project.read_scores(pipeline, START + DAY, START + 2 * DAY))
    assert results[0].to_pandas()["score"].between(0, 1).all()


@pytest.fixture
def project(make_place: Callable[..., Place]) -> Project:
    make_place()
    return Project()


def test_a_published_interval_is_skipped_with_the_counts_of_its_run(project: Project) -> None:
    pipeline = project.load_pipeline("card-risk.yaml")
    first = project.plan(pipeline, now=NOW).intervals[0]
    published = project.score_interval(pipeline, first)

    again = project.score_interval(pipeline, first)

    assert (published.state, again.state) == ("published", "skipped")
    assert (again.run_id, again.scored) == (published.run_id, 250)
    assert len(project.list_runs(pipeline)) == 1


def test_an_interval_that_another_run_holds_is_left_alone(project: Project) -> None:
    pipeline = project.load_pipeline("card-risk.yaml")
    first = project.plan(pipeline, now=NOW).intervals[0]
    pins = {"score": project.registry.resolve("card-risk@champion")}
    other = project._steps(pipeline).claim(first, pins)

    with pytest.raises(IntervalBusy, match=other.run_id):
        project.score_interval(pipeline, first)

    lapse_leases(project.connect("warehouse"))
    assert project.score_interval(pipeline, first).scored == 250
    assert {run.state for run in project.list_runs(pipeline)} == {"abandoned", "published"}


def test_a_gate_that_halts_publishes_nothing_and_leaves_its_findings(project: Project) -> None:
    pipeline = project.load_pipeline("card-risk.yaml")
    gate = Expectation(type="expect_table_row_count_to_be_between", arguments={"min_value": 251})
    strict = pipeline.model_copy(update={"expectations": {"payments": (gate,)}})

    with pytest.raises(Halted, match="251"):
        project.score_interval(strict, project.plan(strict, now=NOW).intervals[0])

    [run] = project.list_runs(pipeline, states=["halted"])
    assert project.read_run(pipeline, run.run_id).validations[0].outcome == "halted"
    assert project.read_scores(pipeline).num_rows == 0


def test_rows_to_train_on_are_the_features_that_a_run_would_score(project: Project) -> None:
    pipeline = project.load_pipeline("card-risk.yaml")
    query = "select payment_id, amount * items as total, amount, items, country, first from payments"
    pipeline = pipeline.model_copy(update={"features": query})

    rows = project.read_features(pipeline, START, START + 2 * DAY, step=3 * DAY)
    paid = project.query("shop", sa.select(payments_table()))

    assert rows.num_rows == 500
    assert rows.sort_by("payment_id").equals(apply_features(pipeline, {"payments": paid.slice(0, 500)}))
    with pytest.raises(SettingsError, match="Give a start, and an end after it"):
        project.read_features(pipeline, START, START)
    with pytest.raises(SettingsError, match="no rows were given for source `payments`"):
        apply_features(pipeline, {})


def test_rows_before_the_start_are_read_to_train_a_model_of_whole_intervals(project: Project) -> None:
    pipeline = project.load_pipeline("card-risk.yaml")
    later = IntervalSpec(column="created_at", grain=DAY, start=START + DAY)
    grouped = pipeline.model_copy(update={"partition_by": "country", "interval": later})

    rows = project.read_features(grouped, START, START + 2 * DAY)

    assert rows.num_rows == 500
    with pytest.raises(SettingsError, match="Begin and end with intervals of the pipeline"):
        project.read_features(grouped, START, START + 1.5 * DAY)
    with pytest.raises(SettingsError, match="is cut into others"):
        project.read_features(grouped, START, START + 2 * DAY, step=2 * DAY)


@pytest.fixture
def paid(tmp_path: Path) -> Callable[[str], Pipeline]:
    """A pipeline of two days' files, of which the first has the amount 1."""

    def make(second: str) -> Pipeline:
        for day, amount in (("2026-01-01", "1"), ("2026-01-02", second)):
            (tmp_path / f"{day}.csv").write_text(f"id,time,amount\n{day},{day}T00:00:00Z,{amount}\n")
        return Pipeline(
            name="paid",
            interval=IntervalSpec(column="time", grain=DAY, start=START),
            sources={
                "rows": FilesSource(kind="files", path="{interval_start:%Y-%m-%d}.csv", format="csv", key=("id",))
            },
            features="select id, amount from rows",
            model=ModelRef(name="card-risk", selector="champion"),
            destination=Destination(table="paid_scores"),
        )

    return make


def test_days_of_whole_and_of_broken_amounts_make_one_column(project: Project, paid: Callable[[str], Pipeline]) -> None:
    rows = project.read_features(paid("2.5"), START, START + 2 * DAY)

    assert rows["amount"].to_pylist() == [1.0, 2.5]


def test_rows_of_a_range_are_read_day_by_day_of_the_pipelines_zone(
    project: Project, paid: Callable[[str], Pipeline]
) -> None:
    pipeline = paid("2")
    assert pipeline.interval is not None
    interval = pipeline.interval.model_validate(
        {"column": "time", "grain": "1d", "timezone": "Asia/Kathmandu", "start": "2026-01-01"}
    )
    local = pipeline.model_copy(update={"interval": interval})

    rows = project.read_features(local, datetime(2026, 1, 1), datetime(2026, 1, 3))  # noqa: DTZ001

    assert [str(day) for day in rows["id"].to_pylist()] == ["2026-01-01", "2026-01-02"]


def test_days_of_numbers_and_of_text_are_an_error_that_names_the_column(
    project: Project, paid: Callable[[str], Pipeline]
) -> None:
    with pytest.raises(FeaturesError, match=r"amount.*Cast them in `features:`"):
        project.read_features(paid("many"), START, START + 2 * DAY)


def test_a_query_may_end_with_a_semicolon(project: Project) -> None:
    assert project.query("shop", "select count(*) as n from payments;\n")["n"].to_pylist() == [750]


def test_settings_given_in_python_go_before_the_environment(project: Project, tmp_path: Path) -> None:
    tried = Project(Settings(connections={"warehouse": f"sqlite:///{tmp_path}/tried.db"}))
    pipeline = tried.load_pipeline("card-risk.yaml")
    tried.score_interval(pipeline, tried.plan(pipeline, now=NOW).intervals[0])

    assert len(tried.list_runs(pipeline)) == 1
    assert project.list_runs(pipeline) == []
    with pytest.raises(SourceError, match="no table or view `card_risk_scores`"):
        project.read_scores(pipeline)


def test_steps_of_inference_are_scored_in_their_order(project: Project) -> None:
    pipeline = project.load_pipeline("card-risk.yaml")
    champion = ModelRef(name="card-risk", selector="champion")
    steps = (
        ScoreStep(name="screen", model=champion),
        ScoreStep(name="deep", model=champion, when="screen_score > 0.5"),
    )
    chained = pipeline.model_copy(update={"name": "chained", "model": None, "models": steps, "expectations": {}})

    result = project.score_interval(chained, project.plan(chained, now=NOW).intervals[0])

    rows = result.to_pandas()
    assert (rows["deep_score"].notna() == (rows["screen_score"] > 0.5)).all()
    assert list(project.read_run(chained, result.run_id).run.step_models) == ["screen", "deep"]
