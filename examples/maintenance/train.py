"""Train both models on certain outcomes."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from penstock import Manifest, Project, Trained, train
from penstock.examples.grid import align_down
from penstock.examples.maintenance.generate import FAILURE, HOUR, LIFE, SCORED, SHIFT, failed, lasted
from penstock.examples.maintenance.outcomes import FORETOLD, LONGEST
from penstock.examples.pack import Size
from penstock.examples.training import join_labels

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Question:
    """The training question of one of the two models."""

    pipeline: str
    window: timedelta
    time: str
    labels: sa.Table
    label: str
    known_after: timedelta
    """How long after a window its outcome is certain. Failures are known earlier and would be over-represented."""
    how: dict[str, Any]


QUESTIONS = (
    Question(
        FAILURE,
        HOUR,
        "hour",
        failed,
        "within_a_day",
        FORETOLD,
        {"params": {"eval_metric": ["auc", "aucpr", "logloss"], "max_depth": 4, "min_child_weight": 10, "eta": 0.05}},
    ),
    Question(
        LIFE,
        SHIFT,
        "shift",
        lasted,
        "hours",
        LONGEST,
        {"objective": "reg:squarederror", "params": {"max_depth": 3, "min_child_weight": 10, "eta": 0.05}},
    ),
)


def learned_rows(project: Project, size: Size, asked: Question) -> pa.Table:
    """Return features and label of all windows whose outcome is certain at the start of the scored ones."""
    grid = datetime.min.replace(tzinfo=size.until.tzinfo)
    scored_from = align_down(size.until, grid, asked.window) - SCORED * asked.window
    begin = scored_from - (scored_from - (size.until - timedelta(days=size.days) + DAY)) // DAY * DAY
    days_known = (scored_from - asked.known_after - begin) // DAY
    pipeline = project.load_pipeline(asked.pipeline)
    features = project.read_features(pipeline, begin, begin + days_known * DAY, step=DAY)
    known = project.query("plant", sa.select(*(asked.labels.c[name] for name in (*pipeline.key, asked.label))))
    return join_labels(features, known, pipeline.key)


def feature_names(frame: pa.Table, asked: Question) -> list[str]:
    """Return the features: all columns except key, label and those used only by expectations."""
    others = ("machine_id", asked.time, asked.label, "broken_readings", "readings_twice")
    return [name for name in frame.column_names if name not in others]


SMALLER: dict[str, Any] = {"max_depth": 2, "min_child_weight": 20}
"""Parameters of the challengers: smaller trees, which a few weeks of data may support better."""


def fit(frame: pa.Table, asked: Question, **params: Any) -> Trained:
    """Train with the newest fifth as the holdout.

    Args:
        params: XGBoost parameters instead of the question's own.
    """
    how = asked.how | {"params": asked.how["params"] | params}
    return train(frame, asked.label, feature_names(frame, asked), order_by=asked.time, **how)


def train_models(project: Project, size: Size) -> tuple[Manifest, ...]:
    """Train both models and their challengers, and register them."""
    manifests = []
    for asked in QUESTIONS:
        frame = learned_rows(project, size, asked)
        for alias, params in (("champion", {}), ("challenger", SMALLER)):
            manifests.append(fit(frame, asked, **params).register(project.registry, asked.pipeline, alias))
    return tuple(manifests)
