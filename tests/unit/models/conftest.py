"""Real boosters of five trees, and the rows they learned from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xgboost as xgb

from penstock.models.registry import Registry

ROWS = 240
COUNTRIES = ("NL", "AR", "FR")  # not sorted: the order of the codes is the model's


@pytest.fixture(scope="session")
def rows() -> pa.Table:
    """Features of every dtype, NULLs among the floats."""
    rng = np.random.default_rng(5)
    amount = rng.normal(50, 20, ROWS)
    amount[::9] = np.nan
    return pa.table(
        {
            "amount": pa.array(amount, from_pandas=True),
            "visits": rng.integers(0, 12, ROWS),
            "known": rng.random(ROWS) > 0.5,
            "country": rng.choice(COUNTRIES, ROWS).tolist(),
        }
    )


def _as_frame(rows: pa.Table) -> pd.DataFrame:
    """The rows as somebody without Penstock would give them to XGBoost."""
    frame = rows.to_pandas()
    frame["country"] = pd.Categorical(frame["country"], categories=list(COUNTRIES))
    return frame


def _fit(rows: pa.Table, objective: str, rounds: int = 5, **params: Any) -> xgb.Booster:
    """Fit a small booster for any objective."""
    frame = _as_frame(rows)
    visits = frame["visits"].to_numpy().astype(float)
    matrix = xgb.DMatrix(frame, enable_categorical=True)
    if objective == "survival:aft":
        matrix.set_float_info("label_lower_bound", visits + 1)
        matrix.set_float_info("label_upper_bound", visits + 2)
    elif objective.startswith("multi:"):
        matrix.set_label(visits % 3)
        params["num_class"] = 3
    elif objective.startswith(("reg:gamma", "reg:tweedie", "count:", "survival:")):
        matrix.set_label(visits + 1)
    else:
        matrix.set_label((visits > 5).astype(float))
    if objective.startswith("rank:"):
        matrix.set_group([ROWS // 8] * 8)
    return xgb.train({"objective": objective, "max_depth": 3, "seed": 1, "nthread": 2} | params, matrix, rounds)


@pytest.fixture(scope="session")
def as_frame() -> Callable[[pa.Table], pd.DataFrame]:
    return _as_frame


@pytest.fixture(scope="session")
def fit() -> Callable[..., xgb.Booster]:
    return _fit


@pytest.fixture(scope="session")
def booster(rows: pa.Table) -> xgb.Booster:
    return _fit(rows, "binary:logistic")


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Save a booster in a file outside the store."""

    def save_booster(booster: xgb.Booster, name: str = "trained.ubj") -> Path:
        file = tmp_path / name
        booster.save_model(file)
        return file

    return save_booster


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "store")
