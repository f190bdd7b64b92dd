"""Labels that come after the scores: collected once each, joined to what was scored, measured as scikit-learn does."""

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa
from pyarrow import csv, parquet
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    log_loss,
    mean_absolute_error,
    mean_pinball_loss,
    ndcg_score,
    roc_auc_score,
    root_mean_squared_error,
)
from typer.testing import CliRunner

from penstock.cli.app import app
from penstock.cli.opening import connector
from penstock.database.connections import Database
from penstock.errors import NothingScored
from penstock.labels.alerts import judge_performance
from penstock.labels.collect import Collected, collect_labels
from penstock.labels.judged_rows import Question
from penstock.labels.performance import (
    Refreshed,
    add_up,
    find_pruned,
    list_judged_runs,
    read_performance,
    refresh_performance,
)
from penstock.labels.read_labels import LostRows
from penstock.labels.trend import read_trend
from penstock.ledger.tables import runs
from penstock.models.measuring import collect_and_measure, make_question
from penstock.models.training import train
from penstock.privacy.masking import NO_MASKING, make_masking
from penstock.settings import load_settings
from penstock.spec.yaml_file import load_pipeline
from penstock.upkeep.prune import count_prune, prune
from penstock.upkeep.prune_plan import plan_prune
from penstock.upkeep.rename import rename_pipeline
from penstock.upkeep.verify import verify_ledger
from tests.conftest import DIALECTS
from tests.driver import Driver
from tests.shop import SPEC, START, Place, payments, train_model

NOW = datetime(2026, 1, 4, 1, tzinfo=UTC)
LATER = datetime(2026, 6, 1, tzinfo=UTC)
LABELS = """
labels:
  source: {kind: sql, connection: shop, table: chargebacks, key: [payment_id]}
  value: is_fraud
  seen_at: reported_at
  mature: 20d
  slices: [country]
"""


class Shop:
    """A shop that has scored some days, and whose labels come as a test says."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.pipeline = load_pipeline(place.spec)
        self.settings = load_settings()
        self.connect = connector(self.settings)
        self.table = sa.Table(
            "chargebacks",
            sa.MetaData(),
            sa.Column("payment_id", sa.BigInteger),
            sa.Column("is_fraud", sa.Integer),
            sa.Column("reported_at", sa.DateTime(timezone=True)),
        )
        self.table.create(place.shop.engine)

    @property
    def warehouse(self) -> Database:
        return self.place.warehouse

    def score(self, **asked: Any) -> None:
        masking = make_masking(self.pipeline, self.settings)
        steps = Driver(self.pipeline, self.connect, self.place.registry, masking).run(NOW, **asked)
        assert steps.count("publish") == 3

    def report(self, rows: list[tuple[int, int | None, datetime]]) -> None:
        """Let labels come: key, label and the time at which it is seen."""
        plain = self.place.shop.dialect != "postgresql"
        values = [(key, value, seen.replace(tzinfo=None) if plain else seen) for key, value, seen in rows]
        names = ("payment_id", "is_fraud", "reported_at")
        with self.place.shop.writing() as connection:
            connection.execute(self.table.insert(), [dict(zip(names, row, strict=True)) for row in values])

    def collect(self, now: datetime = LATER) -> Collected:
        masking = make_masking(self.pipeline, self.settings)
        return collect_labels(self.pipeline, self.connect, masking, now, 60)

    def question(self, now: datetime = LATER, as_of: datetime | None = None) -> Question:
        return make_question(self.pipeline, self.settings, self.place.registry, now, as_of)

    def scores(self, column: str = "score") -> dict[int, Any]:
        with self.warehouse.reading() as connection:
            found = connection.execute(sa.text(f"select payment_id, {column} from card_risk_scores"))
            return {int(key): value for key, value in found}

    def stored(self) -> list[tuple[Any, ...]]:
        with self.warehouse.reading() as connection:
            query = "select key, value, seen_at from penstock_labels order by key, seen_at, value"
            return [tuple(row) for row in connection.execute(sa.text(query))]


@pytest.fixture
def make_shop(make_place: Callable[..., Place]) -> Callable[..., Shop]:
    def make(dialect: str = "sqlite", labels: str = LABELS, spec: str = SPEC) -> Shop:
        shop = Shop(make_place(dialect, dialect, spec=spec + labels))
        shop.score()
        return shop

    return make


def guess_labels(scores: dict[int, float], seed: int = 7) -> dict[int, int]:
    rng = np.random.default_rng(seed)
    return {key: int(rng.random() < score) for key, score in scores.items()}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_metrics_are_those_of_scikit_learn(make_shop: Callable[..., Shop], dialect: str) -> None:
    shop = make_shop(dialect)
    scores = shop.scores()
    labels = guess_labels(scores)
    shop.report([(key, label, NOW + timedelta(hours=key)) for key, label in labels.items()])

    collected = shop.collect()
    measured = refresh_performance(shop.warehouse, shop.question())

    assert (collected.read, collected.new) == (len(labels), len(labels))
    assert measured.runs == 3
    judged = list_judged_runs(shop.warehouse, "card-risk")
    [total] = add_up(read_performance(shop.warehouse, judged))
    p, y = np.array([scores[key] for key in labels]), np.array(list(labels.values()))
    metrics = {name: estimate.value for name, estimate in total.rows.sums.metrics().items()}
    assert metrics == pytest.approx(
        {
            "auc": roc_auc_score(y, p),
            "pr_auc": average_precision_score(y, p),
            "log_loss": log_loss(y, p),
            "brier": brier_score_loss(y, p),
            "calibration": p.mean() - y.mean(),
        },
        abs=1e-6,
    )
    assert (total.model, total.runs, total.coverage, total.provisional_runs) == ("card-risk/1", 3, 1.0, 0)
    countries = shop.scores("country")
    for each in add_up(read_performance(shop.warehouse, judged), by="country"):
        mine = [key for key in labels if countries[key] == json.loads(each.slice)["country"]]
        expected = roc_auc_score([labels[key] for key in mine], [scores[key] for key in mine])
        assert each.rows.judged == len(mine)
        assert each.rows.sums.metrics()["auc"].value == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_each_label_is_stored_once_however_often_it_is_collected(make_shop: Callable[..., Shop], dialect: str) -> None:
    shop = make_shop(dialect)
    shop.report([(1, 0, NOW), (2, 1, NOW), (3, None, NOW)])
    first = shop.collect()
    stored = shop.stored()

    again = shop.collect()
    shop.report([(1, 1, NOW + timedelta(hours=1)), (4, 1, NOW - timedelta(hours=3))])
    later = shop.collect()

    assert (first.new, again.read, again.new) == (3, 3, 0)
    assert len(stored) == 3
    assert (later.read, later.new) == (5, 2)
    assert [row[:2] for row in shop.stored()] == [
        ('{"payment_id": "1"}', "0.0"),
        ('{"payment_id": "1"}', "1.0"),
        ('{"payment_id": "2"}', "1.0"),
        ('{"payment_id": "3"}', "null"),
        ('{"payment_id": "4"}', "1.0"),
    ]


PRIVATE = SPEC.replace("    updated_column", "    private: {payment_id: hash}\n    updated_column")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_label_that_goes_back_to_an_earlier_value_of_the_same_time_counts_again(
    make_shop: Callable[..., Shop], dialect: str
) -> None:
    shop = make_shop(dialect)
    shop.report([(1, 1, NOW), (2, 1, NOW)])
    found = []
    for day, value in enumerate([1, 0, 1]):
        with shop.place.shop.writing() as connection:
            connection.execute(sa.update(shop.table).where(shop.table.c.payment_id == 1).values(is_fraud=value))
        new = shop.collect(LATER + timedelta(hours=day)).new
        refreshed = refresh_performance(shop.warehouse, shop.question())
        judged = read_performance(shop.warehouse, list_judged_runs(shop.warehouse, "card-risk"))
        positives = sum(each.all_rows.sums.bins.positive_count for each in judged)  # type: ignore[union-attr]
        found.append((new, refreshed.runs, positives))

    assert found == [(2, 3, 2), (1, 1, 1), (1, 1, 2)]
    assert shop.collect(LATER + timedelta(hours=4)).new == 0
    assert len(shop.stored()) == 3


@pytest.mark.parametrize("dialect", DIALECTS)
def test_labels_without_a_time_are_counted(make_shop: Callable[..., Shop], dialect: str) -> None:
    shop = make_shop(dialect)
    shop.report([(1, 1, NOW)])
    with shop.place.shop.writing() as connection:
        connection.execute(shop.table.insert(), [{"payment_id": 2, "is_fraud": 1, "reported_at": None}])

    done = collect_and_measure(shop.pipeline, shop.settings, shop.connect, shop.place.registry, LATER)

    assert done.collected.lost == LostRows(1, 0)
    assert "; 1 row without a time of being seen left out; 3 runs measured" in done.describe()


def test_a_run_that_cannot_be_measured_holds_up_no_other_one(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop()
    shop.report([(key, label, NOW) for key, label in guess_labels(shop.scores()).items()])
    first = list_judged_runs(shop.warehouse, "card-risk")[0]
    with shop.warehouse.writing() as connection:
        connection.execute(sa.update(runs).where(runs.c.run_id == first.run_id).values(model_version="9"))

    done = collect_and_measure(shop.pipeline, shop.settings, shop.connect, shop.place.registry, LATER)

    assert done.measured_runs == 2
    [told] = done.unmeasured
    assert told.startswith(f"run {first.run_id[:8]} not measured: ")
    assert told in done.describe()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_private_keys_are_stored_as_hashes_that_find_their_rows(
    make_shop: Callable[..., Shop], dialect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_PRIVATE_KEY", "a secret of more than sixteen letters")
    shop = make_shop(dialect, spec=PRIVATE)
    shop.report([(key, key % 2, NOW) for key in range(1, 101)])

    shop.collect()
    refresh_performance(shop.warehouse, shop.question())

    assert all(row[0].startswith('{"payment_id": "hash:') for row in shop.stored())
    judged = list_judged_runs(shop.warehouse, "card-risk")
    assert sum(each.all_rows.labelled for each in read_performance(shop.warehouse, judged)) == 100


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_forget_reaches_labels(
    make_shop: Callable[..., Shop], dialect: str, private: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_PRIVATE_KEY", "a secret of more than sixteen letters")
    shop = make_shop(dialect, spec=PRIVATE if private else SPEC)
    shop.report([(1, 1, NOW), (1, 0, NOW + timedelta(hours=1)), (2, 1, NOW)])
    shop.collect()
    with shop.place.shop.writing() as connection:
        connection.execute(shop.table.delete().where(shop.table.c.payment_id == 1))

    result = CliRunner().invoke(app, ["forget", str(shop.place.spec), "1", "--yes"])

    assert result.exit_code == 0, result.output
    assert re.search(r"penstock_labels\s+2", result.stdout)
    assert len(shop.stored()) == 1
    assert shop.collect().new == 0


@pytest.mark.parametrize("dialect", DIALECTS)
def test_prune_removes_old_labels_and_keeps_the_performance_of_their_intervals(
    make_shop: Callable[..., Shop], dialect: str
) -> None:
    shop = make_shop(dialect, labels=LABELS + "retention: {labels: 30d}\n")
    shop.report([(1, 1, NOW), (2, 0, NOW), (3, 1, LATER - timedelta(days=2))])
    shop.collect()
    refresh_performance(shop.warehouse, shop.question())

    plan = plan_prune(shop.warehouse, shop.pipeline, LATER)
    counted = count_prune(shop.warehouse, plan)
    prune(shop.warehouse, plan)

    assert [(each.kind, each.rows) for each in counted] == [("labels", 2)]
    assert [row[0] for row in shop.stored()] == ['{"payment_id": "3"}']
    shop.report([(4, 1, LATER - timedelta(days=1))])
    assert shop.collect().new == 1
    assert refresh_performance(shop.warehouse, shop.question()).runs == 0
    judged = list_judged_runs(shop.warehouse, "card-risk")
    assert sum(each.all_rows.labelled for each in read_performance(shop.warehouse, judged)) == 3
    assert verify_ledger(shop.warehouse) == ()


def test_a_run_of_an_interval_whose_labels_were_pruned_is_not_measured(make_shop: Callable[..., Shop]) -> None:
    """Without its labels, each row of it would count as negative."""
    shop = make_shop(labels=LABELS + "  missing: negative\nretention: {labels: 30d}\n")
    shop.report([(key, 1, NOW) for key in range(1, 751)])
    shop.collect()
    assert refresh_performance(shop.warehouse, shop.question()).runs == 3
    prune(shop.warehouse, plan_prune(shop.warehouse, shop.pipeline, LATER))

    shop.score(mode="restate", start=START, end=START + timedelta(days=3))

    assert refresh_performance(shop.warehouse, shop.question()) == Refreshed()
    live = [run for run in list_judged_runs(shop.warehouse, "card-risk") if run.state == "published"]
    assert (len(live), read_performance(shop.warehouse, live)) == (3, [])


def test_a_run_is_not_measured_if_labels_of_its_first_rows_were_pruned(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop(labels=LABELS + "retention: {labels: 30d}\n")
    hour = timedelta(hours=1)
    shop.report([(1, 1, START + hour), (2, 1, START + 20 * hour)])
    shop.collect()

    prune(shop.warehouse, plan_prune(shop.warehouse, shop.pipeline, START + timedelta(days=30) + 12 * hour))

    lost = find_pruned(shop.warehouse, list_judged_runs(shop.warehouse, "card-risk"))
    assert (len(shop.stored()), lost.runs if lost else 0) == (1, 1)
    assert refresh_performance(shop.warehouse, shop.question()).runs == 2


def test_runs_of_models_of_two_kinds_are_not_added_up(make_shop: Callable[..., Shop]) -> None:
    """The champion is replaced by a regression: alerts and the trend are of the newest kind of model alone."""
    alert = "  alert: {auc: {below: 0.99}, mae: {above: 0.01}}\n  over: 30d\n"
    shop = make_shop(spec=SPEC.replace("0.0001", "-99").replace("0.9999", "99"), labels=LABELS + alert)
    rows = payments(days=2, a_day=400, seed=5).select(["amount", "items", "country", "first"])
    wanted = pa.array(rows["items"].to_numpy() * 0.5)
    trained = train(rows.append_column("wanted", wanted), "wanted", rounds=3, objective="reg:squarederror")
    trained.register(shop.place.registry, "card-risk", alias="champion")
    day = timedelta(days=1)
    masking = make_masking(shop.pipeline, shop.settings)
    driver = Driver(shop.pipeline, shop.connect, shop.place.registry, masking)
    assert driver.run(NOW, "restate", START + 2 * day, START + 3 * day)[-1] == "publish"
    shop.report([(key, key % 2, NOW) for key in range(1, 751)])
    shop.collect()

    assert refresh_performance(shop.warehouse, shop.question()).runs >= 3
    alerts = judge_performance(shop.warehouse, shop.question())
    trend = read_trend(shop.warehouse, shop.pipeline)

    assert [each.metric for each in alerts] == ["mae"]
    assert trend is not None
    assert len(trend.points) == 1


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_renamed_pipeline_keeps_its_labels(make_shop: Callable[..., Shop], dialect: str) -> None:
    shop = make_shop(dialect)
    shop.report([(1, 1, NOW)])
    shop.collect()
    renamed = shop.pipeline.model_copy(update={"name": "card-danger"})
    collect_labels(renamed, shop.connect, NO_MASKING, LATER, 60)

    rename_pipeline(shop.warehouse, "card-risk", renamed)

    assert len(shop.stored()) == 1
    shop.pipeline = renamed
    assert shop.collect().new == 0
    assert refresh_performance(shop.warehouse, shop.question()).runs == 3
    assert verify_ledger(shop.warehouse) == ()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_collection_that_is_killed_at_any_statement_leaves_no_doubled_label(
    make_shop: Callable[..., Shop], dialect: str
) -> None:
    shop = make_shop(dialect)
    halves = 0
    for killed in range(1, 30):
        shop.report([(killed, 1, NOW + timedelta(minutes=killed)), (100 + killed, 0, NOW + timedelta(minutes=killed))])
        with killed_at(shop.warehouse, killed) as statements, contextlib.suppress(Killed, sa.exc.DBAPIError):
            shop.collect()
        halves += len(shop.stored()) < 2 * killed
        shop.collect()
        assert len(shop.stored()) == 2 * killed
        if next(statements) <= killed:
            break  # it had ended before

    assert 3 < killed < 29
    assert halves > 2
    assert verify_ledger(shop.warehouse) == ()
    refresh_performance(shop.warehouse, shop.question())
    judged = list_judged_runs(shop.warehouse, "card-risk")
    assert sum(each.all_rows.labelled for each in read_performance(shop.warehouse, judged)) == 2 * killed


@contextlib.contextmanager
def killed_at(database: Database, number: int) -> Iterator[Iterator[int]]:
    """Kill the statement of that number in a database. Yield the count of the statements."""
    statements = iter(range(1, 10_000))

    def kill(connection: Any, *_: Any) -> None:
        if next(statements) == number:
            connection.connection.invalidate()
            raise Killed

    sa.event.listen(database.engine, "before_cursor_execute", kill)
    try:
        yield statements
    finally:
        sa.event.remove(database.engine, "before_cursor_execute", kill)


class Killed(BaseException):
    """Ends a collection as a kill does: no handler of an error takes it."""


def test_two_collections_at_once_store_each_label_once(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop("postgresql")
    shop.report([(key, 1, NOW) for key in range(1, 400)])
    shop.collect(NOW)  # makes the row of the labels

    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(lambda _: shop.collect(), range(4)))

    assert sum(each.new for each in done) == 399
    assert len(shop.stored()) == 399
    assert verify_ledger(shop.warehouse) == ()


def test_labels_of_a_pipeline_that_has_scored_nothing_are_refused(make_place: Callable[..., Place]) -> None:
    shop = Shop(make_place(spec=SPEC + LABELS))

    with pytest.raises(NothingScored, match="Run `penstock run card-risk`"):
        shop.collect()
    assert refresh_performance(shop.warehouse, shop.question()).runs == 0


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_labels_of_files_are_joined_whatever_the_type_of_their_key(
    make_shop: Callable[..., Shop], form: str, tmp_path: Path
) -> None:
    (tmp_path / "outcomes").mkdir()
    source = f"{{kind: files, path: '{tmp_path}/outcomes/*.{form}', format: {form}, key: [payment_id]}}"
    declared = LABELS.replace("{kind: sql, connection: shop, table: chargebacks, key: [payment_id]}", source)
    shop = make_shop(labels=declared.replace("value: is_fraud", "value: fraud = 'yes'"))

    def deliver(name: str, keys: range, seen: datetime) -> None:
        rows = {
            "payment_id": [str(key) for key in keys],
            "fraud": ["yes" if key % 3 == 0 else "no" for key in keys],
            "reported_at": [seen] * len(keys),
        }
        write = csv.write_csv if form == "csv" else parquet.write_table
        write(pa.table(rows), str(tmp_path / "outcomes" / f"{name}.{form}"))

    deliver("first", range(1, 301), NOW)
    if form == "csv":
        with (tmp_path / "outcomes" / "first.csv").open("a") as file:
            file.write('"1","yes","2026-01-20","and","more"\n')
    first = shop.collect()
    deliver("second", range(301, 601), NOW + timedelta(days=5))
    second = shop.collect()
    refresh_performance(shop.warehouse, shop.question())

    assert (first.new, second.new) == (300, 300)
    assert first.lost == LostRows(0, 1 if form == "csv" else 0)
    [total] = add_up(read_performance(shop.warehouse, list_judged_runs(shop.warehouse, "card-risk")))
    assert (total.rows.labelled, total.rows.sums.bins.positive_count) == (600, 200)  # type: ignore[union-attr]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_regression_is_measured(make_place: Callable[..., Place], dialect: str) -> None:
    shop = Shop(
        make_place(dialect, dialect, spec=SPEC.replace("0.9999", "99999") + LABELS + "  quantiles: [0.5, 0.9]\n")
    )
    rows = payments(days=2, a_day=400, seed=5)
    spent = pa.array(rows["amount"].to_numpy() * 2.0 + rows["items"].to_numpy())
    frame = rows.select(["amount", "items", "country", "first"]).append_column("spent", spent)
    train(frame, "spent", rounds=20, objective="reg:squarederror").register(
        shop.place.registry, "card-risk", alias="champion"
    )
    shop.score()
    scores = shop.scores()
    labels = {key: round(score) + key % 4 for key, score in scores.items()}
    shop.report([(key, label, NOW) for key, label in labels.items()])
    shop.collect()
    refresh_performance(shop.warehouse, shop.question())

    [total] = add_up(read_performance(shop.warehouse, list_judged_runs(shop.warehouse, "card-risk")))

    y, p = np.array([float(labels[key]) for key in scores]), np.array(list(scores.values()))
    metrics = {name: estimate.value for name, estimate in total.rows.sums.metrics().items()}
    assert metrics == pytest.approx(
        {
            "mae": mean_absolute_error(y, p),
            "rmse": root_mean_squared_error(y, p),
            "bias": (p - y).mean(),
            "pinball_0.5": mean_pinball_loss(y, p, alpha=0.5),
            "pinball_0.9": mean_pinball_loss(y, p, alpha=0.9),
        },
        abs=1e-6,
    )


def test_each_version_is_measured_by_its_own_scores_of_the_same_rows(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop()
    first = shop.scores()
    labels = guess_labels(first)
    shop.report([(key, label, NOW) for key, label in labels.items()])
    shop.collect()
    with shop.warehouse.writing() as connection:  # as a challenger's runs stand in the ledger
        connection.execute(sa.update(runs).values(variant="shadow:card-risk/1"))
    train_model(shop.settings.models_folder, "card-risk")
    shop.score()
    refresh_performance(shop.warehouse, shop.question())

    found = add_up(read_performance(shop.warehouse, list_judged_runs(shop.warehouse, "card-risk")))

    assert [(each.variant, each.model, each.rows.judged) for each in found] == [
        ("live", "card-risk/2", 750),
        ("shadow:card-risk/1", "card-risk/1", 750),
    ]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_ranking_is_measured_within_its_groups(make_place: Callable[..., Place], dialect: str) -> None:
    spec = SPEC.replace("model: ", "partition_by: country\nmodel: ").replace("0.0001", "-99").replace("0.9999", "99")
    shop = Shop(make_place(dialect, dialect, spec=spec + LABELS.replace("  slices: [country]\n", "")))
    rows = payments(days=2, a_day=400, seed=5)
    wanted = pa.array(np.minimum(rows["items"].to_numpy() // 2, 3))
    frame = rows.select(["amount", "items", "first", "country"]).append_column("wanted", wanted)
    trained = train(frame, "wanted", rounds=8, objective="rank:ndcg", group=["country"], features=["amount", "first"])
    trained.register(shop.place.registry, "card-risk", alias="champion")
    shop.score()
    scores, countries = shop.scores(), shop.scores("country")
    labels = {key: key % 4 for key in scores if key % 7}
    shop.report([(key, label, NOW) for key, label in labels.items()])
    shop.collect()
    refresh_performance(shop.warehouse, shop.question())

    [total] = add_up(read_performance(shop.warehouse, list_judged_runs(shop.warehouse, "card-risk")))

    groups: dict[tuple[int, str], list[int]] = {}
    for key in labels:
        groups.setdefault(((key - 1) // 250, countries[key]), []).append(key)
    expected = [ndcg_score([[labels[k] for k in keys]], [[scores[k] for k in keys]]) for keys in groups.values()]
    assert total.rows.judged == len(labels)
    assert total.rows.sums.metrics()["ndcg"].value == pytest.approx(np.mean(expected), abs=1e-6)
