"""The only module that knows XGBoost: open a verified file, score an Arrow table, fit a booster.

XGBoost is given a frame of named columns in the manifest's order, never an array: it would score an array whose
columns are in the wrong order without an error.
"""

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import xgboost as xgb

from penstock.errors import ModelMismatch, ModelRefused
from penstock.models.booster_facts import BoosterFacts, check_manifest
from penstock.models.columns import FeatureColumn, Numbers, read_column
from penstock.models.golden import check_golden_rows, golden_table
from penstock.models.manifest import PREDICTED_CLASS, Feature, Manifest
from penstock.models.model_file import inspect_file, refuse_newer
from penstock.run_types import Misfit
from penstock.settings import Device

logger = logging.getLogger(__name__)

_DTYPES: dict[str, Any] = {"float": "float", "q": "float", "int": "int", "i": "bool", "c": "category"}
_TYPES = {"float": "float", "int": "int", "bool": "i", "category": "c"}


@dataclass(frozen=True)
class ModelVersion:
    """One verified model version, ready to score. Threads may share it."""

    manifest: Manifest
    booster: xgb.Booster = field(repr=False)
    device: Device = "cpu"
    """The device that predicts."""
    _by_threads: dict[int, xgb.Booster] = field(default_factory=dict, repr=False, compare=False)
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def check_columns(self, columns: Collection[str]) -> None:
        """Raise `ModelMismatch` naming the features that are not among `columns`."""
        missing = tuple(name for name in self.manifest.feature_names if name not in columns)
        if missing:
            raise ModelMismatch(self.manifest.label, missing, "needs columns that the batch does not have")

    def refused_rows(self, table: pa.Table) -> dict[int, tuple[Misfit, ...]]:
        """Return position and reasons of every row that the model cannot take. NULL is never a reason.

        The reasons contain values of the rows: mask them before they are shown or stored.
        """
        reasons: dict[int, tuple[Misfit, ...]] = {}
        for column in self.read(table):
            for row, misfit in column.misfits.items():
                reasons[row] = (*reasons.get(row, ()), misfit)
        return dict(sorted(reasons.items()))

    def score(self, table: pa.Table, threads: int | None = None) -> pa.Table:
        """Score every row: the columns `manifest.outputs`, float64 (`predicted_class` text), in the table's row order.

        A `multi:softmax` model gives its classes' probabilities too, as the softmax of its margins.

        Raises:
            ModelMismatch: a feature is missing, or `refused_rows` would return a row.
            ModelRefused: the model returns another number of rows, or a score that is not finite.
        """
        columns = self.read(table)
        for column in columns:
            if column.misfits:
                raise ModelMismatch(
                    self.manifest.label,
                    (column.feature.name,),
                    f"cannot take {len(column.misfits):,} of {table.num_rows:,} rows "
                    f"({next(iter(column.misfits.values())).why}); `refused_rows` returns them",
                )
        scores = self._predict(build_frame(columns, self._indexes), threads)
        expected = (table.num_rows, len(self.manifest.score_columns))
        if scores.shape != expected:
            raise ModelRefused(self.manifest.label, f"it returned scores of shape {scores.shape}, not {expected}.")
        if not np.isfinite(scores).all():
            row = int(np.flatnonzero(~np.isfinite(scores).all(axis=1))[0])
            raise ModelRefused(
                self.manifest.label, f"its score of row {row} is not finite. Look at that row's features."
            )
        return self._name_outputs(scores)

    def read(self, table: pa.Table) -> list[FeatureColumn]:
        """Convert the features' columns, in the manifest's order. Raise `ModelMismatch` if one is missing."""
        self.check_columns(set(table.column_names))
        twice = tuple(name for name in self.manifest.feature_names if table.column_names.count(name) > 1)
        if twice:
            raise ModelMismatch(self.manifest.label, twice, "was given a column more than once")
        return [read_column(feature, table.column(feature.name)) for feature in self.manifest.features]

    @cached_property
    def _indexes(self) -> "dict[str, pd.Index[Any]]":
        exported = read_categories(self.booster)
        return {f.name: pd.Index(exported.get(f.name, f.categories)) for f in self.manifest.features}

    @cached_property
    def _linear(self) -> bool:
        return _is_linear(self.booster)

    def _predict(self, frame: pd.DataFrame, threads: int | None) -> Numbers:
        """Predict as (rows, outputs), with the best iteration only."""
        objective, best = self.manifest.objective, self.manifest.best_iteration
        if not len(frame):
            return np.empty((0, len(self.manifest.score_columns)), np.float32)
        booster = self.booster if threads is None else self._booster_with(threads)
        rounds = (0, 0) if best is None else (0, best + 1)
        margins = objective == "multi:softmax"
        if self._linear or self.device == "cuda":  # inplace_predict takes trees only, and warns about a frame on a GPU
            matrix = xgb.DMatrix(frame, nthread=threads, enable_categorical=True)
            scores = booster.predict(matrix, output_margin=margins, iteration_range=rounds)
        else:
            kind = "margin" if margins else "value"
            scores = booster.inplace_predict(frame, iteration_range=rounds, predict_type=kind)
        scores = np.asarray(scores)
        scores = scores[:, np.newaxis] if scores.ndim == 1 else scores
        return _softmax(scores) if margins else scores

    def _booster_with(self, threads: int) -> xgb.Booster:
        """Return a copy with its own thread count: setting it on the shared booster would affect other threads."""
        with self._lock:
            if threads not in self._by_threads:
                copy = self.booster.copy()
                copy.set_param({"nthread": threads})
                self._by_threads[threads] = copy
            return self._by_threads[threads]

    def _name_outputs(self, scores: Numbers) -> pa.Table:
        outputs: dict[str, pa.Array[Any]] = {
            name: pa.array(scores[:, at].astype(np.float64)) for at, name in enumerate(self.manifest.score_columns)
        }
        if PREDICTED_CLASS in self.manifest.outputs:
            labels = pa.array(self.manifest.classes, pa.string())
            outputs[PREDICTED_CLASS] = labels.take(pa.array(scores.argmax(axis=1)))
        return pa.table(outputs)


def open_booster(content: bytes, model: str, file_name: str) -> tuple[xgb.Booster, BoosterFacts]:
    """Check the bytes of a model file, then open it from memory.

    Raises:
        ModelRefused: wrong format, saved by a newer XGBoost, not loadable, or without feature names.
    """
    file = inspect_file(content, model, file_name)
    refuse_newer(file, xgb.__version__, model)
    booster = xgb.Booster()
    try:
        booster.load_model(bytearray(content))
    except xgb.core.XGBoostError as error:
        raise ModelRefused(model, f"XGBoost cannot read {file_name}: {_first_line(error)}") from None
    learner = json.loads(booster.save_config())["learner"]
    objective, shape = learner["learner_train_param"]["objective"], learner["learner_model_param"]
    best = booster.attr("best_iteration")
    facts = BoosterFacts(
        features=_read_features(booster, model),
        objective=objective,
        classes=int(shape["num_class"]) if objective.startswith("multi:") else 0,
        targets=int(shape["num_target"]),
        best_iteration=None if best is None or _is_linear(booster) else int(best),
        saved_by=file.saved_by_text,
        format=file.format,
    )
    return booster, facts


def open_version(manifest: Manifest, content: bytes, device: Device = "cpu") -> ModelVersion:
    """Open a registered version whose digest was verified, and check it against its manifest.

    Args:
        device: what predicts, the golden rows too.

    Raises:
        ModelRefused: features, objective or categories differ, or a golden row gets another score than expected.
    """
    booster, facts = open_booster(content, manifest.label, manifest.file)
    check_manifest(facts, manifest)
    device = "cpu" if _is_linear(booster) else available_device(device)
    if device == "cuda":
        booster.set_param({"device": device})
    version = ModelVersion(manifest, booster, device)
    check_golden_rows(manifest, version.score(golden_table(manifest)), xgb.__version__)
    return version


@lru_cache
def available_device(wanted: Device) -> Device:
    """Return the device that can predict: without a GPU it is the processor, with one warning a process."""
    fault = find_gpu_fault() if wanted == "cuda" else None
    if fault is None:
        return wanted
    logger.warning("PENSTOCK_DEVICE is cuda, and %s: the processor predicts", fault)
    return "cpu"


@lru_cache
def find_gpu_fault() -> str | None:
    """Return why no GPU can predict here, None if one can. A tiny fit shows which device XGBoost uses."""
    try:
        with xgb.config_context(verbosity=0):  # it warns twice of each booster that falls back
            tried = xgb.train({"device": "cuda"}, xgb.DMatrix(np.array([[0.0], [1.0]]), [0.0, 1.0]), 1)
    except xgb.core.XGBoostError as error:
        return f"XGBoost says: {_first_line(error)}"
    used = json.loads(tried.save_config())["learner"]["generic_param"]["device"]
    return None if used.startswith("cuda") else "XGBoost finds no GPU that it can use"


def read_categories(booster: xgb.Booster) -> dict[str, list[Any]]:
    """Return the categories of each category feature, if the file has them (frames, XGBoost 3.1 or later)."""
    if _is_linear(booster):
        return {}  # XGBoost raises: a linear booster has no categories
    exported = booster.get_categories(export_to_arrow=True)
    if exported is None or exported.empty():
        return {}
    return {name: values.to_pylist() for name, values in exported.to_arrow() if values is not None}


def build_frame(columns: Sequence[FeatureColumn], indexes: "Mapping[str, pd.Index[Any]]") -> pd.DataFrame:
    """Build a frame of the named columns, in their order, without a copy."""
    return pd.DataFrame(
        {
            c.feature.name: pd.Categorical.from_codes(c.values, categories=indexes[c.feature.name])
            if c.feature.dtype == "category"
            else c.values
            for c in columns
        },
        copy=False,
    )


@dataclass(frozen=True)
class Fitted:
    """A fitted booster as a UBJSON file, with its holdout metrics at the best iteration."""

    content: bytes
    best_iteration: int | None
    metrics: dict[str, float]


def fit_booster(
    columns: Sequence[FeatureColumn],
    label: npt.NDArray[np.float32],
    holdout: int,
    rounds: int,
    early_stopping: int | None,
    params: Mapping[str, Any],
    groups: npt.NDArray[np.int64] | None = None,
) -> Fitted:
    """Fit on all rows but the last `holdout`, which evaluate each round. Stop when the last metric stops improving.

    Args:
        groups: for a ranking objective, the number of each row's group, ascending.

    Raises:
        ModelRefused: XGBoost refuses the names, the labels or the parameters.
    """
    frame = build_frame(columns, {c.feature.name: pd.Index(c.feature.categories) for c in columns})
    types = [_TYPES[c.feature.dtype] for c in columns]
    cut = len(frame) - holdout
    evaluations: dict[str, dict[str, list[float]]] = {}
    try:
        training, evaluating = (
            xgb.DMatrix(
                frame.iloc[part],
                label[part],
                feature_types=types,
                enable_categorical=True,
                qid=None if groups is None else groups[part],
            )
            for part in (slice(0, cut), slice(cut, None))
        )
        booster = xgb.train(
            dict(params),
            training,
            rounds,
            evals=[(evaluating, "holdout")] if holdout else [],
            evals_result=evaluations,
            early_stopping_rounds=early_stopping if holdout else None,
            verbose_eval=False,
        )
    except (xgb.core.XGBoostError, ValueError) as error:
        raise ModelRefused("to be trained", f"XGBoost says: {_first_line(error)}") from None
    best = booster.attr("best_iteration")
    at = -1 if best is None else int(best)
    values = {name: float(series[at]) for name, series in evaluations.get("holdout", {}).items()}
    return Fitted(
        content=bytes(booster.save_raw("ubj")),
        best_iteration=None if best is None else at,
        metrics={name: value for name, value in values.items() if np.isfinite(value)},
    )


def _read_features(booster: xgb.Booster, model: str) -> tuple[Feature, ...]:
    names = booster.feature_names
    if not names:
        raise ModelRefused(
            model,
            "it has no feature names, so columns could only be matched by position. Train it on a frame with names.",
        )
    bad = [name for name in names if set(name) & set("[]<")]
    if bad or len(set(names)) != len(names):
        raise ModelRefused(
            model, f"XGBoost does not accept `[`, `]` or `<` in feature names, nor a name twice: {bad or names}."
        )
    types = booster.feature_types or ["float"] * len(names)
    categories = read_categories(booster)
    return tuple(
        Feature(name=name, dtype=_DTYPES[kind], categories=tuple(str(c) for c in categories.get(name, ())))
        for name, kind in zip(names, types, strict=True)
    )


def _is_linear(booster: xgb.Booster) -> bool:
    return bool(json.loads(booster.save_config())["learner"]["gradient_booster"]["name"] == "gblinear")


def _softmax(margins: Numbers) -> Numbers:
    exponents = np.exp(margins.astype(np.float64) - margins.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True))


def _first_line(error: Exception) -> str:
    """Return XGBoost's message without its time stamp, source line and stack trace."""
    text = str(error).strip().splitlines()[0]
    return text.split(".cc:")[-1].lstrip("0123456789: ") if ".cc:" in text else text
