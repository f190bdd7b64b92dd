"""The only module that knows XGBoost: open a verified file, score an Arrow table, fit a booster.

XGBoost is given a frame of named columns in the manifest's order, never an array: it would score an array whose
columns are in the wrong order without an error.
"""

import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
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
from penstock.models.category_names import StoredNames
from penstock.models.columns import FeatureColumn, Numbers, read_column, read_margin
from penstock.models.feature_names import are_positions, check_names
from penstock.models.golden import check_golden_rows, golden_table
from penstock.models.links import LINKS
from penstock.models.manifest import PREDICTED_CLASS, Feature, Manifest
from penstock.models.model_file import inspect_file, refuse_newer
from penstock.run_types import Misfit
from penstock.settings import Device
from penstock.wording import plural

logger = logging.getLogger(__name__)

_DTYPES: dict[str, Any] = {"float": "float", "q": "float", "int": "int", "i": "bool", "c": "category"}
_TYPES = {"float": "float", "int": "int", "bool": "i", "category": "c"}


@dataclass(frozen=True)
class ModelInputs:
    """A table's columns as a model takes them, converted once for its misfits and for its scores."""

    rows: int
    columns: list[FeatureColumn]
    margins: list[FeatureColumn]

    def refused_rows(self) -> dict[int, tuple[Misfit, ...]]:
        """Return position and reasons of every row that the model cannot take. A feature may always be NULL.

        The reasons contain values of the rows: mask them before they are shown or stored.
        """
        reasons: dict[int, tuple[Misfit, ...]] = {}
        for column in self.columns + self.margins:
            for row, misfit in column.misfits.items():
                reasons[row] = (*reasons.get(row, ()), misfit)
        return dict(sorted(reasons.items()))


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
        """Raise `ModelMismatch` naming the features and base margins that are not among `columns`."""
        missing = tuple(name for name in self.manifest.input_names if name not in columns)
        if missing:
            raise ModelMismatch(self.manifest.label, missing, "needs columns that the batch does not have")

    def refused_rows(self, table: pa.Table) -> dict[int, tuple[Misfit, ...]]:
        """Return position and reasons of every row of a table that the model cannot take."""
        return self.read_inputs(table).refused_rows()

    def read_inputs(self, table: pa.Table) -> ModelInputs:
        """Convert the columns that the model takes. Raise `ModelMismatch` if one is missing."""
        return ModelInputs(table.num_rows, self.read(table), self.read_margins(table))

    def score(self, table: pa.Table, threads: int | None = None) -> pa.Table:
        """Score every row: the columns `manifest.outputs`, float64 (`predicted_class` text), in the table's row order.

        A `multi:softmax` model gives its classes' probabilities too, as the softmax of its margins.

        Raises:
            ModelMismatch: a feature is missing, or `refused_rows` would return a row.
            ModelRefused: the model returns another number of rows, or a score that is not finite.
        """
        return self.score_inputs(self.read_inputs(table), threads)

    def score_inputs(self, inputs: ModelInputs, threads: int | None = None) -> pa.Table:
        """Score every row of converted columns, as `score` does."""
        for column in inputs.columns + inputs.margins:
            if column.misfits:
                raise ModelMismatch(
                    self.manifest.label,
                    (column.feature.name,),
                    f"cannot take {len(column.misfits):,} of {plural(inputs.rows, 'row')} "
                    f"({next(iter(column.misfits.values())).why}); `refused_rows` returns them",
                )
        scores = self._predict(inputs.columns, inputs.margins, threads)
        expected = (inputs.rows, len(self.manifest.score_columns))
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
        twice = tuple(name for name in self.manifest.input_names if table.column_names.count(name) > 1)
        if twice:
            raise ModelMismatch(self.manifest.label, twice, "was given a column more than once")
        missing = self.manifest.missing
        return [read_column(feature, table.column(feature.name), missing) for feature in self.manifest.features]

    def read_margins(self, table: pa.Table) -> list[FeatureColumn]:
        """Convert the columns of the base margin."""
        return [read_margin(name, table.column(name)) for name in self.manifest.base_margin]

    @cached_property
    def _indexes(self) -> "dict[str, pd.Index[Any]] | None":
        """The categories of each feature. None if XGBoost cannot find them by their names, which it may have cut."""
        exported = read_categories(self.booster)
        if any(isinstance(names, StoredNames) for names in exported.values()):
            return None
        known: dict[str, Any] = dict(exported)
        return {f.name: pd.Index(known.get(f.name, f.categories)) for f in self.manifest.features}

    @cached_property
    def _needs_matrix(self) -> bool:
        """Whether `inplace_predict` is not for it.

        It takes trees only, warns about a frame on a GPU, takes no codes where the file has names, and multiplies the
        base margin of DART (XGBoost 3.2.0).
        """
        kind = _kind_of(self.booster)
        dart = kind == "dart" and self.manifest.base_margin
        return bool(kind == "gblinear" or self.device == "cuda" or self._indexes is None or dart)

    def _predict(self, columns: list[FeatureColumn], margins: list[FeatureColumn], threads: int | None) -> Numbers:
        """Predict as (rows, outputs), with the rounds, base margin and link of the manifest."""
        frame = build_frame(columns, self._indexes)
        if not len(frame):
            return np.empty((0, len(self.manifest.score_columns)), np.float32)
        booster = self.booster if threads is None else self._booster_with(threads)
        rounds = (0, self.manifest.rounds)
        link = self.manifest.link or ("softmax" if self.manifest.objective == "multi:softmax" else None)
        base = np.column_stack([m.values for m in margins]).astype(np.float32) if margins else None
        if base is not None and base.shape[1] == 1:
            base = base[:, 0]
        if self._needs_matrix:
            matrix = xgb.DMatrix(frame, base_margin=base, nthread=threads, enable_categorical=True)
            scores = booster.predict(matrix, output_margin=link is not None, iteration_range=rounds)
        else:
            kind = "value" if link is None else "margin"
            scores = booster.inplace_predict(frame, base_margin=base, iteration_range=rounds, predict_type=kind)
        scores = np.asarray(scores)
        scores = scores[:, np.newaxis] if scores.ndim == 1 else scores
        return LINKS[link](scores) if link else scores

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


def open_booster(
    content: bytes, model: str, file_name: str, name_features: Callable[[int], tuple[Feature, ...]]
) -> tuple[xgb.Booster, BoosterFacts]:
    """Check the bytes of a model file, then open it from memory.

    Args:
        name_features: gives the features of a file without names, by their number.

    Raises:
        ModelRefused: wrong format, saved by a newer XGBoost, or not loadable.
    """
    file = inspect_file(content, model, file_name)
    refuse_newer(file, xgb.__version__, model)
    booster = xgb.Booster()
    try:
        with xgb.config_context(verbosity=0):  # it warns of files from before 1.6, which it reads
            booster.load_model(bytearray(content))
    except xgb.core.XGBoostError as error:
        raise ModelRefused(model, f"XGBoost cannot read {file_name}: {_first_line(error)}") from None
    learner = json.loads(booster.save_config())["learner"]
    objective, shape = learner["learner_train_param"]["objective"], learner["learner_model_param"]
    best, linear = booster.attr("best_iteration"), _kind_of(booster) == "gblinear"
    named = not are_positions(booster.feature_names)
    given = () if named else name_features(booster.num_features())
    wrapper = json.loads(booster.attr("scikit_learn") or "{}")
    facts = BoosterFacts(
        features=_read_features(booster, model, given),
        objective=objective,
        classes=int(shape["num_class"]),
        targets=int(shape["num_target"]),
        best_iteration=None if best is None or linear else int(best),
        rounds=None if linear else booster.num_boosted_rounds(),
        saved_by=file.saved_by_text,
        format=file.format,
        may_be_custom=_may_be_custom(booster, objective, shape, file.saved_by),
        stored_names={n: names for n, names in read_categories(booster).items() if isinstance(names, StoredNames)},
        named=named,
        typed=booster.feature_types is not None,
        labels=_read_labels(wrapper),
        missing=_read_missing(wrapper),
    )
    return booster, facts


def open_version(manifest: Manifest, content: bytes, device: Device = "cpu") -> ModelVersion:
    """Open a registered version whose digest was verified, and check it against its manifest.

    Args:
        device: what predicts, the golden rows too.

    Raises:
        ModelRefused: features, objective or categories differ, or a golden row gets another score than expected.
    """
    booster, facts = open_booster(content, manifest.label, manifest.file, lambda _: manifest.features)
    check_manifest(facts, manifest)
    device = "cpu" if _kind_of(booster) == "gblinear" else available_device(device)
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


def read_categories(booster: xgb.Booster) -> dict[str, list[Any] | StoredNames]:
    """Return the categories of each category feature, if the file has them (frames, XGBoost 3.1 or later).

    Names beyond ASCII are given as they are stored.
    """
    if _kind_of(booster) == "gblinear":
        return {}  # XGBoost raises: a linear booster has no categories
    exported = booster.get_categories(export_to_arrow=True)
    if exported is None or exported.empty():
        return {}
    return {name: _read_names(values) for name, values in exported.to_arrow() if values is not None}


def _read_names(values: "pa.Array[Any]") -> list[Any] | StoredNames:
    if pa.types.is_string(values.type):
        stored = StoredNames.of_array(values)
        if not stored.is_ascii:
            return stored
    return list(values.to_pylist())


def build_frame(columns: Sequence[FeatureColumn], indexes: "Mapping[str, pd.Index[Any]] | None") -> pd.DataFrame:
    """Build a frame of the named columns, in their order, without a copy.

    Args:
        indexes: by category feature, its categories; None for the codes as numbers.
    """

    def values_of(column: FeatureColumn) -> Any:
        if column.feature.dtype != "category":
            return column.values
        if indexes is not None:
            return pd.Categorical.from_codes(column.values, categories=indexes[column.feature.name])
        codes = column.values.astype(np.float32)
        codes[codes < 0] = np.nan
        return codes

    return pd.DataFrame({c.feature.name: values_of(c) for c in columns}, copy=False)


@dataclass(frozen=True)
class Fitted:
    """A fitted booster as a UBJSON file, with its holdout metrics at the best iteration."""

    content: bytes
    best_iteration: int | None
    metrics: dict[str, float]
    predicted: Numbers
    """What the booster predicts of the rows that it was fitted on, with the best iteration."""


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
    types = [_TYPES[c.feature.dtype] for c in columns]
    cut = len(label) - holdout
    evaluations: dict[str, dict[str, list[float]]] = {}
    try:
        training, evaluating = (
            xgb.DMatrix(
                _arrow_table(columns, part),
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
    used = 0 if best is None or _kind_of(booster) == "gblinear" else at + 1
    return Fitted(
        content=bytes(booster.save_raw("ubj")),
        best_iteration=None if best is None else at,
        metrics={name: value for name, value in values.items() if np.isfinite(value)},
        predicted=np.asarray(booster.predict(training, iteration_range=(0, used))),
    )


def _arrow_table(columns: Sequence[FeatureColumn], part: slice) -> pa.Table:
    """Build a table of some rows to fit on. XGBoost cuts the category names of a pandas frame, but not of Arrow's."""

    def array_of(column: FeatureColumn) -> "pa.Array[Any]":
        values = column.values[part]
        if column.feature.dtype != "category":
            return pa.array(values)
        codes = pa.array(values, pa.int32(), mask=values < 0)
        return pa.DictionaryArray.from_arrays(codes, pa.array(column.feature.categories, pa.string()))

    return pa.table({c.feature.name: array_of(c) for c in columns})


def _read_features(booster: xgb.Booster, model: str, given: Sequence[Feature]) -> tuple[Feature, ...]:
    """Return the features of the file.

    Args:
        given: the features of a file without names. They give it names and, if it has none, types.
    """
    types = booster.feature_types
    if given:
        if len(given) != booster.num_features():
            raise ModelRefused(
                model,
                f"its file has {plural(booster.num_features(), 'feature')}, and {plural(len(given), 'name')} are "
                "given. Give one for each.",
            )
        booster.feature_names = [feature.name for feature in given]
        if types is None:
            return tuple(given)
    names = list(booster.feature_names or ())
    check_names(model, names)
    exported = read_categories(booster)
    known = {n: tuple(str(c) for c in names) for n, names in exported.items() if not isinstance(names, StoredNames)}
    by_name = {feature.name: feature.categories for feature in given}
    return tuple(
        Feature(name=name, dtype=_DTYPES[kind], categories=known.get(name, by_name.get(name, ())))
        for name, kind in zip(names, types or ["float"] * len(names), strict=True)
    )


def _read_labels(wrapper: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the labels of the classes that wrappers of XGBoost 1 store. Later ones store none."""
    encoder = wrapper.get("_le")
    labels = encoder.get("classes_") if isinstance(encoder, dict) else wrapper.get("classes_")
    return tuple(str(label) for label in labels) if isinstance(labels, list) else ()


def _read_missing(wrapper: Mapping[str, Any]) -> float | None:
    """Return the missing value that wrappers of XGBoost 1 store. None for NaN."""
    missing = wrapper.get("missing")
    return float(missing) if isinstance(missing, int | float) and np.isfinite(missing) else None


def _kind_of(booster: xgb.Booster) -> str:
    """Return the kind of booster: gbtree, dart or gblinear."""
    return str(json.loads(booster.save_config())["learner"]["gradient_booster"]["name"])


def _may_be_custom(
    booster: xgb.Booster, objective: str, shape: Mapping[str, str], saved_by: tuple[int, int, int]
) -> bool:
    """Return whether a custom objective may have fitted it. The file then names XGBoost's default objective instead.

    XGBoost's own objectives estimate the base score from the labels, custom ones leave it as it was given.
    """
    base = [float(number) for number in shape["base_score"].strip("[]").split(",")]
    if objective == "reg:squarederror":
        estimator = json.loads(booster.attr("scikit_learn") or "{}").get("_estimator_type")
        return estimator == "classifier" or shape.get("boost_from_average") != "1" or set(base) == {0.5}
    return objective == "multi:softmax" and set(base) == {0.5} and saved_by >= (3, 1, 0)


def _first_line(error: Exception) -> str:
    """Return XGBoost's message without its time stamp, source line and stack trace."""
    text = str(error).strip().splitlines()[0]
    return text.split(".cc:")[-1].lstrip("0123456789: ") if ".cc:" in text else text
