"""The small shop scored in two steps: a screen that sees two columns, and a deeper model for what it finds risky."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import xgboost as xgb

from penstock.models.registry import Registry
from penstock.models.training import train
from penstock.spec.steps import ModelRef
from tests.shop import SPEC, payments

FLOOR = 0.5
MODELS = f"""models:
  - name: deep
    model: risk-deep@champion
    when: screen_score > {FLOOR} and items > 1
    inputs: {{opinion: screen_score}}
  - {{name: screen, model: risk-screen@champion}}
decide:
  score: coalesce(deep_score, screen_score)
  decision: case when score >= 0.6 then 'block' when score >= 0.5 then 'review' else 'pass' end
"""
STEPS = SPEC.replace("model: card-risk@champion\n", MODELS)


def train_steps(store: Path, rounds: int = 5) -> Registry:
    """Train both models on other payments, the deep one with the screen's score as a feature, and register them."""
    rows = payments(days=2, a_day=400, seed=99)
    amount, items = rows["amount"].to_numpy(), rows["items"].to_numpy()
    label = pa.array(((amount > 25) ^ (items > 5)).astype(int))
    registry = Registry(store)
    shallow = rows.select(["amount", "items"]).append_column("label", label)
    train(shallow, "label", rounds=3, params={"max_depth": 2}).register(registry, "risk-screen", alias="champion")
    screen = registry.load(registry.resolve(ModelRef.model_validate("risk-screen@champion")))
    opinion = screen.score(rows)["score"]
    whole = rows.select(["amount", "items", "country", "first"]).append_column("opinion", opinion)
    train(whole.append_column("label", label), "label", rounds=rounds).register(registry, "risk-deep", alias="champion")
    return registry


def predict(registry: Registry, name: str, rows: pa.Table) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    """XGBoost's own prediction of a model's first version, without Penstock in between."""
    manifest = registry.manifest(name, "1")
    booster = xgb.Booster()
    booster.load_model(registry.folder / name / "1" / manifest.file)
    frame = rows.select(list(manifest.feature_names)).to_pandas()
    for feature in manifest.features:
        if feature.dtype == "category":
            frame[feature.name] = frame[feature.name].astype("category").cat.set_categories(list(feature.categories))
    last = manifest.best_iteration
    matrix = xgb.DMatrix(frame, enable_categorical=True)
    return booster.predict(matrix, iteration_range=(0, last + 1) if last is not None else (0, 0))


def predict_steps(registry: Registry, rows: pa.Table) -> list[tuple[int, float, float | None]]:
    """Key, screen's score and deep's score of each row, chained by hand; None where the condition does not hold."""
    screen = predict(registry, "risk-screen", rows)
    deep = predict(registry, "risk-deep", rows.append_column("opinion", pa.array(screen.astype(np.float64))))
    chosen = (screen > FLOOR) & (rows["items"].to_numpy() > 1)
    keys = rows["payment_id"].to_pylist()
    return [(key, float(s), float(d) if c else None) for key, s, d, c in zip(keys, screen, deep, chosen, strict=True)]
