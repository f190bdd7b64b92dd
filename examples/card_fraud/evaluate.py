"""Compute the figures of the README: `python -m penstock.examples.card_fraud evaluate --real UCI_Credit_Card.csv.gz`.

The real data are 30,000 card holders; 22 % missed their next payment. They have no times, so the last fifth by
number is the holdout. The question is not fraud, but the closest one in a public data set of this size.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv

from penstock import Project, Trained
from penstock.examples.card_fraud.train import (
    HOW,
    LABEL,
    LETTERS,
    SEEN_BY_SCREEN,
    SHALLOW,
    TIME,
    feature_names,
    learned_rows,
)
from penstock.examples.judging import Judged, Numbers, Rule, compare, hold_out, score_rows, to_numbers
from penstock.examples.pack import Size

SCREEN_BOUND = 0.003
"""The bound in `when:` of the spec."""
METRICS = ("aucpr", "auc")


def judge_generated(project: Project, size: Size) -> dict[str, list[Judged]]:
    """Measure on the newest fifth of the payments with a known verdict."""
    frame = learned_rows(project, size)
    holdout = hold_out(frame, LABEL, TIME, features=feature_names(frame), **HOW)
    screen = hold_out(frame, LABEL, TIME, features=SEEN_BY_SCREEN, **SHALLOW).trained
    unread = [name for name in feature_names(frame) if name not in LETTERS]
    blind = hold_out(frame, LABEL, TIME, features=unread, **HOW).trained
    rules: dict[str, Rule] = {
        "model without the letters": lambda rows: score_rows(blind, rows),
        "screen alone": lambda rows: score_rows(screen, rows),
        "screen, and the model above its bound": lambda rows: score_in_steps(screen, holdout.trained, rows),
        "failed sign-ins in the hour before, then amount against the card's usual": rule_of_the_desk,
    }
    return {f"{frame.num_rows:,} generated payments": compare(holdout, LABEL, rules, METRICS)}


def score_in_steps(screen: Trained, deep: Trained, rows: pa.Table) -> Numbers:
    """Score as the pipeline's two steps do."""
    first = score_rows(screen, rows)
    return np.where(first >= SCREEN_BOUND, score_rows(deep, rows), first)


def rule_of_the_desk(rows: pa.Table) -> Numbers:
    """Score by a rule that a fraud desk could use without a model."""
    ratio = np.nan_to_num(to_numbers(rows["amount_to_usual"]), nan=1.0)
    return to_numbers(rows["failed_1h"]) + np.minimum(ratio, 50) / 100


def judge_real(path: Path) -> dict[str, list[Judged]]:
    """Measure on the last fifth of the card holders."""
    frame = csv.read_csv(path)
    features = [name for name in frame.column_names if name not in ("ID", "next_payment")]
    holdout = hold_out(frame, "next_payment", "ID", features=features, **HOW)
    rules = {"months overdue now (PAY_0)": lambda rows: to_numbers(rows["PAY_0"])}
    return {f"{frame.num_rows:,} card holders (UCI)": compare(holdout, "next_payment", rules, METRICS)}
