"""Train the models on payments with a known verdict: screen and deep model of the hours, and those of the nights."""

from datetime import timedelta
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from penstock import Manifest, Project, train
from penstock.examples.card_fraud.generate import (
    LOSSES,
    PIPELINE,
    SCORED_HOURS,
    SCORED_NIGHTS,
    SCREEN,
    end_of_nights,
    verdicts,
)
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


def learned_rows(project: Project, size: Size, pipeline: str = PIPELINE) -> pa.Table:
    """Return features and label of the payments that are old enough to have every verdict.

    Younger payments are left out, even with a verdict: those reported first would be over-represented.
    """
    hourly, nightly = size.until - timedelta(hours=SCORED_HOURS), end_of_nights(size) - SCORED_NIGHTS * DAY
    end = (nightly if pipeline == LOSSES else hourly) - DECIDED_WITHIN
    whole_days = (end - (size.until - timedelta(days=size.days) + WARM_UP)) // DAY
    spec = project.load_pipeline(pipeline)
    features = project.read_features(spec, end - whole_days * DAY, end, step=DAY)
    known = project.query("bank", sa.select(verdicts.c.payment_id, verdicts.c.fraud))
    return join_labels(features, known, spec.key)


LETTERS = ("letters_7d", "says_phished")
"""Features that come from the customers' letters."""


def feature_names(frame: pa.Table) -> list[str]:
    return [name for name in frame.column_names if name not in ("payment_id", TIME, LABEL)]


def train_models(project: Project, size: Size) -> tuple[Manifest, ...]:
    """Train the models of both pipelines, with the newest fifth as the holdout, and register them."""
    frame, nights = learned_rows(project, size), learned_rows(project, size, LOSSES)
    trained = (
        (SCREEN, "champion", train(frame, LABEL, SEEN_BY_SCREEN, order_by=TIME, **SHALLOW)),
        (PIPELINE, "champion", train(frame, LABEL, feature_names(frame), order_by=TIME, **HOW)),
        (LOSSES, "champion", train(nights, LABEL, feature_names(nights), order_by=TIME, **HOW)),
        (LOSSES, "challenger", train(nights, LABEL, SEEN_BY_SCREEN, order_by=TIME, **SHALLOW)),
    )
    return tuple(model.register(project.registry, name, alias) for name, alias, model in trained)
