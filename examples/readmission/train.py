"""Train the readmission model on stays whose thirty days are over."""

from datetime import timedelta
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from penstock import Manifest, Project, train
from penstock.examples.pack import Size
from penstock.examples.readmission.generate import PIPELINE, SCORED_DAYS, readmissions
from penstock.examples.readmission.world import WITHIN
from penstock.examples.training import join_labels

LABEL, TIME = "within_30_days", "discharged_at"
HOW: dict[str, Any] = {
    "params": {"eval_metric": ["auc", "logloss"], "max_depth": 4, "min_child_weight": 10, "subsample": 0.8}
}
"""Shallow trees, because the data say little about a readmission, and deeper trees overfit."""


def learned_rows(project: Project, size: Size) -> pa.Table:
    """Return features and label of the stays that ended at least thirty days before the first scored one.

    Younger stays are left out, even if the patient has returned: only positive outcomes would be known.
    """
    end = size.until - timedelta(days=SCORED_DAYS) - WITHIN
    pipeline = project.load_pipeline(PIPELINE)
    features = project.read_features(pipeline, size.until - timedelta(days=size.days), end, step=timedelta(days=1))
    known = project.query("hospital", sa.select(readmissions.c.encounter_id, readmissions.c.within_30_days))
    return join_labels(features, known, pipeline.key)


NOTES = ("note_length", "lives_alone", "fell", "declines")
"""Features that come from the notes."""


def feature_names(frame: pa.Table) -> list[str]:
    return [name for name in frame.column_names if name not in ("encounter_id", TIME, LABEL)]


def train_models(project: Project, size: Size) -> tuple[Manifest, ...]:
    """Train with the newest fifth as the holdout, and register the champion, and the challenger that reads notes."""
    frame, registry = learned_rows(project, size), project.registry
    features = feature_names(frame)
    blind = train(frame, LABEL, [name for name in features if name not in NOTES], order_by=TIME, **HOW)
    reader = train(frame, LABEL, features, order_by=TIME, **HOW)
    return blind.register(registry, PIPELINE, "champion"), reader.register(registry, PIPELINE, "challenger")
