"""Train the screen and the deep model on payments with a known verdict."""

from datetime import timedelta
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from penstock import Manifest, Project, train
from penstock.examples.card_fraud.generate import PIPELINE, SCORED_HOURS, SCREEN, verdicts
from penstock.examples.card_fraud.world import DECIDED_WITHIN
from penstock.examples.pack import Size
from penstock.examples.training import join_labels

DAY = timedelta(days=1)
WARM_UP = DAY
"""The first day is left out: it has no day before it, so its counts are too low."""
LABEL, TIME = "fraud", "made_at"
HOW: dict[str, Any] = {"params": {"eval_metric": ["auc", "aucpr", "logloss"], "max_depth": 4, "min_child_weight": 5}}
"""aucpr is the figure to look at: with one fraud in a hundred payments, auc is near 1 for any model. Training stops by
the last metric, logloss, which depends on every row and not only on the few frauds."""
SEEN_BY_SCREEN = ("amount", "amount_to_usual", "category", "channel", "abroad", "new_device", "hour")
"""Columns of the payment itself, and the card's usual amount."""
SHALLOW: dict[str, Any] = {"rounds": 40, "params": HOW["params"] | {"max_depth": 2}}


def learned_rows(project: Project, size: Size) -> pa.Table:
    """Return features and label of the payments that are old enough to have every verdict.

    Younger payments are left out, even with a verdict: those reported first would be over-represented.
    """
    scored_from = size.until - timedelta(hours=SCORED_HOURS)
    whole_days = (scored_from - DECIDED_WITHIN - (size.until - timedelta(days=size.days) + WARM_UP)) // timedelta(
        days=1
    )
    end = scored_from - DECIDED_WITHIN
    pipeline = project.load_pipeline(PIPELINE)
    features = project.read_features(pipeline, end - whole_days * timedelta(days=1), end, step=timedelta(days=1))
    known = project.query("bank", sa.select(verdicts.c.payment_id, verdicts.c.fraud))
    return join_labels(features, known, pipeline.key)


LETTERS = ("letters_7d", "says_phished")
"""Features that come from the customers' letters."""


def feature_names(frame: pa.Table) -> list[str]:
    return [name for name in frame.column_names if name not in ("payment_id", TIME, LABEL)]


def train_models(project: Project, size: Size) -> tuple[Manifest, ...]:
    """Train both steps, with the newest fifth as the holdout, and register the champions."""
    frame = learned_rows(project, size)
    screen = train(frame, LABEL, SEEN_BY_SCREEN, order_by=TIME, **SHALLOW)
    deep = train(frame, LABEL, feature_names(frame), order_by=TIME, **HOW)
    registry = project.registry
    return screen.register(registry, SCREEN, "champion"), deep.register(registry, PIPELINE, "champion")
