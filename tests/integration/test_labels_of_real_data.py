"""Labels on real data: 30,000 credit card holders of UCI, whose missed payments become known over days.

The data are not part of the project. They are looked for in `shared/data` beside the checkout or above it, or in the
folder that TEST_DATA names; without them these tests are skipped.
"""

import os
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import sqlalchemy as sa
from pyarrow import csv
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from penstock import Project, train
from penstock.database.bulk import bulk_transaction
from penstock.database.connections import close_engines
from penstock.labels.performance import RunPerformance, add_up, list_judged_runs, measure_as_of, read_performance
from penstock.models.measuring import collect_and_measure, make_question
from penstock.monitor.binned_scores import MOST
from penstock.spec.yaml_file import load_pipeline
from tests.driver import Driver

pytestmark = pytest.mark.slow

Numbers = npt.NDArray[np.float64]

NAME, LABEL, TRAINED = "UCI_Credit_Card.csv.gz", "next_payment", 10_000
SIZES = (14_000, 3_000, 3_000)
"""Card holders scored on each day. The first run has too many different scores to be kept exactly."""
DAY, START = timedelta(days=1), datetime(2026, 1, 1, tzinfo=UTC)
SCORED = START + len(SIZES) * DAY
LAST = SCORED + 21 * DAY
"""Nobody is reported later than twenty days after the day on which the holder was scored."""
SPEC = """
name: credit
interval: {column: asked_at, grain: 1d, start: 2026-01-01T00:00:00Z}
sources:
  holders: {kind: sql, connection: bank, table: holders, key: [id]}
model: credit@champion
challengers: [{model: credit@challenger}]
destination: {table: credit_scores, keep: [sex]}
labels:
  source: {kind: sql, connection: bank, table: outcomes, key: [id]}
  value: missed
  seen_at: reported_at
  mature: 20d
  slices: [sex]
"""


def find_data() -> Path | None:
    """Return the file of the card holders, or None where it is not at hand."""
    named = os.environ.get("TEST_DATA")
    above = (parent / "shared" / "data" for parent in Path(__file__).resolve().parents)
    folders = [Path(named)] if named else above
    return next((folder / NAME for folder in folders if (folder / NAME).is_file()), None)


@dataclass(frozen=True)
class Bank:
    """A bank that has scored its card holders for three days, and learns later who missed a payment."""

    project: Project
    drive: Driver
    day: npt.NDArray[np.int64]
    """Of each scored holder, in the order of their numbers."""
    missed: Numbers
    reported: npt.NDArray[np.int64]
    """The second after `START` at which it was reported whether the holder missed the payment."""

    def collect(self, now: datetime) -> None:
        settings, connect = self.project.settings, self.drive.does.connect
        collect_and_measure(self.drive.pipeline, settings, connect, self.project.registry, now)

    def measure(self, now: datetime) -> list[RunPerformance]:
        """Return the performance of each run by the labels that were seen until then."""
        question = make_question(self.drive.pipeline, self.project.settings, self.project.registry, LAST, as_of=now)
        return measure_as_of(self.drive.warehouse, list_judged_runs(self.drive.warehouse, "credit"), question)

    def read_kept(self) -> list[RunPerformance]:
        return read_performance(self.drive.warehouse, list_judged_runs(self.drive.warehouse, "credit"))

    def scores_of(self, run_id: str) -> Numbers:
        """Return a run's scores by holder. NaN: another run scored the holder."""
        rows = self.project.query(
            "warehouse", f"select id, score from credit_scores__history where run_id = '{run_id}'"
        )
        scores = np.full(len(self.missed), np.nan)
        scores[rows["id"].to_numpy() - TRAINED - 1] = rows["score"].to_numpy()
        return scores

    def is_seen(self, now: datetime) -> npt.NDArray[np.bool_]:
        return np.asarray(self.reported <= (now - START).total_seconds())


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    file = find_data()
    if file is None:
        pytest.skip(f"there is no {NAME}; TEST_DATA names the folder that has it")
    folder = tmp_path_factory.mktemp("credit")
    (folder / "credit.yaml").write_text(SPEC, encoding="utf-8")
    (folder / ".env").write_text("PENSTOCK_CONNECTIONS__BANK=sqlite:///bank.db\n", encoding="utf-8")
    with chdir(folder):
        project = Project()
        drive = Driver(load_pipeline(folder / "credit.yaml"), project.connect, project.registry)
        yield make_bank(csv.read_csv(file), project, drive)
        close_engines()


def make_bank(holders: pa.Table, project: Project, drive: Driver) -> Bank:
    """Train two models on the first third, score the others over three days, and report its labels day by day."""
    renamed = holders.rename_columns([{"ID": "id", "SEX": "sex"}.get(name, name) for name in holders.column_names])
    features = [name for name in renamed.column_names if name not in ("id", LABEL)]
    learned, scored = renamed.slice(0, TRAINED), renamed.slice(TRAINED)
    without_past = [name for name in features if not name.startswith("PAY_")]
    for alias, seen in (("champion", without_past), ("challenger", features)):
        train(learned, LABEL, seen, params={"max_depth": 3}).register(project.registry, "credit", alias)
    rng, day = np.random.default_rng(7), np.repeat(np.arange(len(SIZES)), SIZES)
    missed = scored[LABEL].to_numpy().astype(np.float64)
    waited = np.where(missed == 1, rng.integers(0, 15 * 86_400, len(day)), rng.integers(0, 20 * 86_400, len(day)))
    reported = (day + 1) * 86_400 + waited
    asked = np.arange(len(day)) % 86_400 + day * 86_400
    holders_table = scored.drop_columns([LABEL]).append_column("asked_at", to_times(asked))
    outcomes = pa.table({"id": scored["id"], "missed": missed.astype(np.int64), "reported_at": to_times(reported)})
    source, metadata = project.connect("bank"), sa.MetaData()
    tables = {make_table(metadata, "holders", holders_table): holders_table}
    tables[make_table(metadata, "outcomes", outcomes)] = outcomes
    metadata.create_all(source.engine)
    with bulk_transaction(source) as transaction:
        for table, rows in tables.items():
            transaction.append(table, rows)
    assert drive.run(SCORED).count("publish") == len(SIZES)
    return Bank(project, drive, day, missed, reported)


def to_times(seconds: npt.NDArray[np.int64]) -> "pa.Array":
    micros = (int(START.timestamp()) + seconds) * 1_000_000
    return pa.array(micros).cast(pa.timestamp("us", "UTC"))


def make_table(metadata: sa.MetaData, name: str, rows: pa.Table) -> sa.Table:
    return sa.Table(name, metadata, *(sa.Column(field.name, column_type(field.type)) for field in rows.schema))


def column_type(kind: pa.DataType) -> "sa.types.TypeEngine[object]":
    if pa.types.is_timestamp(kind):
        return sa.DateTime(timezone=True)
    return sa.BigInteger() if pa.types.is_integer(kind) else sa.Double()


def judge(scores: Numbers, labels: Numbers) -> dict[str, float]:
    return {
        "auc": float(roc_auc_score(labels, scores)),
        "pr_auc": float(average_precision_score(labels, scores)),
        "log_loss": float(log_loss(labels, scores)),
        "brier": float(brier_score_loss(labels, scores)),
    }


def assert_like_scikit_learn(bank: Bank, found: list[RunPerformance], now: datetime) -> None:
    """Compare each run, and each model over all runs, with what scikit-learn computes of the labels seen by then."""
    seen, together = bank.is_seen(now), {}
    for each in found:
        scores = bank.scores_of(each.run.run_id)
        counted = ~np.isnan(scores) & seen
        assert each.all_rows.judged == counted.sum()
        binned = len(np.unique(scores[counted])) > MOST
        expected = judge(scores[counted], bank.missed[counted])
        got = {name: estimate.value for name, estimate in each.all_rows.sums.metrics().items() if name in expected}
        for name, value in expected.items():
            assert got[name] == pytest.approx(value, abs=1e-5 if binned and "auc" in name else 1e-6), (each.run, name)
        together.setdefault(each.run.model, []).append((scores[counted], bank.missed[counted]))
    for total in add_up(found):
        parts = together[total.model]
        expected = judge(*(np.concatenate(part) for part in zip(*parts, strict=True)))
        got = total.rows.sums.metrics()
        assert {name: got[name].value for name in expected} == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("days", [3, 8])
def test_what_was_believed_on_a_day_is_what_scikit_learn_computes_of_the_labels_of_that_day(
    bank: Bank, days: int
) -> None:
    now = SCORED + days * DAY
    bank.collect(now)

    found = bank.measure(now)

    assert len(found) == 2 * len(SIZES)
    assert_like_scikit_learn(bank, found, now)


def test_kept_performance_of_all_labels_is_what_scikit_learn_computes(bank: Bank) -> None:
    bank.collect(LAST)

    found = bank.read_kept()

    assert_like_scikit_learn(bank, found, LAST)
    assert all(each.mature and each.all_rows.judged == each.all_rows.scored for each in found)


def test_champion_and_challenger_are_judged_on_the_same_rows_and_the_past_of_payments_counts(bank: Bank) -> None:
    bank.collect(LAST)

    champion, challenger = add_up(bank.read_kept())

    assert (champion.variant, champion.model, challenger.model) == ("live", "credit/1", "credit/2")
    assert champion.rows.judged == challenger.rows.judged == sum(SIZES)
    low, high = (each.rows.sums.metrics()["auc"].value for each in (champion, challenger))
    assert low + 0.03 < high < 0.8


def test_slices_add_up_to_all_rows(bank: Bank) -> None:
    bank.collect(LAST)

    sexes = [total.rows.judged for total in add_up(bank.read_kept(), by="sex") if total.variant == "live"]

    assert len(sexes) == 2
    assert sum(sexes) == sum(SIZES)
