"""How much each feature adds to a score: exact TreeSHAP by XGBoost, and what it costs.

The contributions of a row and its bias add up to the row's raw margin. That is checked for each row. The formula is
that of Lundberg, Erion and Lee, "Consistent Individualized Feature Attribution for Tree Ensembles" (2018), algorithm 2.
"""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xgboost as xgb

from penstock.errors import NotAdditive
from penstock.models.booster.frames import kind_of
from penstock.models.columns import Numbers

_TOLERANCE = 1e-4
"""XGBoost adds in 32 bits. The largest difference that was seen is 1e-6 of the sum of the contributions' sizes."""
_LEAF_SECONDS = 4.5e-9
"""CPU seconds of a row for a leaf of depth 1. XGBoost 3.2 takes 3.3e-9 at depth 8 and 6.8e-9 at depth 3."""


@dataclass(frozen=True)
class Contributions:
    """What each feature adds to the raw margin of one output of each row."""

    values: Numbers
    """Of shape (rows, features), in the order of the manifest."""
    bias: Numbers
    """Of shape (rows): the margin without any feature, with the row's base margin."""


def explain_rows(
    booster: xgb.Booster, frame: pd.DataFrame, base: Numbers | None, rounds: int, outputs: Numbers, model: str
) -> Contributions:
    """Return the contributions to one output of each row.

    Args:
        base: base margins of the rows.
        rounds: boosting rounds that score; 0 for all.
        outputs: of shape (rows): the position of the output to explain.
        model: `name/version`, for the error.

    Raises:
        NotAdditive: the contributions of a row do not add up to its margin.
    """
    matrix = xgb.DMatrix(frame, base_margin=base, enable_categorical=True)
    given = {"iteration_range": (0, rounds), "strict_shape": True}
    every = np.arange(len(frame))
    found = booster.predict(matrix, pred_contribs=True, **given)[every, outputs]
    margins = booster.predict(matrix, output_margin=True, **given)[every, outputs].astype(np.float64)
    sums, sizes = found.sum(axis=1, dtype=np.float64), np.abs(found).sum(axis=1, dtype=np.float64)
    wrong = np.flatnonzero(~(np.abs(sums - margins) <= _TOLERANCE * (1.0 + sizes)))
    if len(wrong):
        raise NotAdditive(model, len(wrong), len(frame), float(sums[wrong[0]]), float(margins[wrong[0]]))
    return Contributions(found[:, :-1], found[:, -1])


def estimate_seconds(booster: xgb.Booster, rounds: int) -> float:
    """Estimate the CPU seconds that the contributions of one row take, from the depths of the trees' leaves.

    TreeSHAP takes time in proportion to the leaves times the square of their depth. The estimate depends on the model
    alone, so that every machine explains the same rows within a budget.
    """
    if kind_of(booster) == "gblinear":
        return _LEAF_SECONDS * booster.num_features()
    trees = _read_trees(booster)
    used = len(trees) * rounds // booster.num_boosted_rounds() if rounds else len(trees)
    return _LEAF_SECONDS * sum(_squared_depths(tree) for tree in trees[:used])


def _read_trees(booster: xgb.Booster) -> list[dict[str, Any]]:
    stored = json.loads(bytes(booster.save_raw("json")))["learner"]["gradient_booster"]
    trees: list[dict[str, Any]] = stored.get("gbtree", stored)["model"]["trees"]  # DART has its trees one level deeper
    return trees


def _squared_depths(tree: dict[str, Any]) -> int:
    """Return the sum of the squared depths of a tree's leaves. A node's children come after it."""
    left, right = tree["left_children"], tree["right_children"]
    depths, total = [0] * len(left), 0
    for node, (yes, no) in enumerate(zip(left, right, strict=True)):
        if yes < 0:
            total += max(depths[node], 1) ** 2
        else:
            depths[yes] = depths[no] = depths[node] + 1
    return total
