"""One verified model version: what it cannot take, and its scores of an Arrow table."""

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import xgboost as xgb

from penstock.errors import ModelMismatch, ModelRefused
from penstock.models.booster.contributions import Contributions, estimate_seconds, explain_rows
from penstock.models.booster.frames import build_array, build_frame, kind_of, read_categories
from penstock.models.category_names import StoredNames
from penstock.models.columns import FeatureColumn, Numbers, read_column, read_margin
from penstock.models.links import LINKS
from penstock.models.manifest import PREDICTED_CLASS, Manifest
from penstock.run_types import Misfit
from penstock.settings import Device
from penstock.wording import plural

_FEW_ROWS = 256
"""Most rows that are given to XGBoost as an array. A frame takes ten times as long for one row."""


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

    def score(self, table: pa.Table, threads: int | None = None, *, by_frame: bool = False) -> pa.Table:
        """Score every row: the columns `manifest.outputs`, float64 (`predicted_class` text), in the table's row order.

        A `multi:softmax` model gives its classes' probabilities too, as the softmax of its margins.

        Args:
            threads: those that predict; None: as many as there are processors.
            by_frame: give XGBoost a frame, as for many rows, also if there are few.

        Raises:
            ModelMismatch: a feature is missing, or `refused_rows` would return a row.
            ModelRefused: the model returns another number of rows, or a score that is not finite.
        """
        return self.score_inputs(self.read_inputs(table), threads, by_frame=by_frame)

    def score_inputs(self, inputs: ModelInputs, threads: int | None = None, *, by_frame: bool = False) -> pa.Table:
        """Score every row of converted columns, as `score` does."""
        for column in inputs.columns + inputs.margins:
            if column.misfits:
                raise ModelMismatch(
                    self.manifest.label,
                    (column.feature.name,),
                    f"cannot take {len(column.misfits):,} of {plural(inputs.rows, 'row')} "
                    f"({next(iter(column.misfits.values())).why}); `refused_rows` returns them",
                )
        scores = self._predict(inputs.columns, inputs.margins, threads, by_frame)
        expected = (inputs.rows, len(self.manifest.score_columns))
        if scores.shape != expected:
            raise ModelRefused(self.manifest.label, f"it returned scores of shape {scores.shape}, not {expected}.")
        if not np.isfinite(scores).all():
            row = int(np.flatnonzero(~np.isfinite(scores).all(axis=1))[0])
            raise ModelRefused(
                self.manifest.label, f"its score of row {row} is not finite. Look at that row's features."
            )
        return self._name_outputs(scores)

    def explain_inputs(self, inputs: ModelInputs) -> Contributions:
        """Return what each feature adds to the raw margin: exact TreeSHAP, on the processor.

        Of a model with classes, the margin of the class that the row is given. Of one with several targets, the first.

        Raises:
            NotAdditive: the contributions of a row do not add up to its margin.
            ModelMismatch: as `score` raises it.
        """
        outputs = np.zeros(inputs.rows, np.int64)
        if not inputs.rows:
            return Contributions(np.empty((0, len(inputs.columns)), np.float32), np.empty(0, np.float32))
        if PREDICTED_CLASS in self.manifest.outputs:
            given = self.score_inputs(inputs)[PREDICTED_CLASS].to_pylist()
            outputs = np.array([self.manifest.classes.index(label) for label in given])
        frame, base = build_frame(inputs.columns, self._indexes), _stack_margins(inputs.margins)
        return explain_rows(self._on_processor, frame, base, self.manifest.rounds, outputs, self.manifest.label)

    @cached_property
    def explained_row_seconds(self) -> float:
        """The CPU seconds that the contributions of one row take, estimated from the trees."""
        return estimate_seconds(self.booster, self.manifest.rounds)

    @cached_property
    def _on_processor(self) -> xgb.Booster:
        """The booster on the processor: a GPU explains no splits by category."""
        if self.device == "cpu":
            return self.booster
        copy = self.booster.copy()
        copy.set_param({"device": "cpu"})
        return copy

    def read(self, table: pa.Table) -> list[FeatureColumn]:
        """Convert the features' columns, in the manifest's order. Raise `ModelMismatch` if one is missing."""
        names = table.column_names
        self.check_columns(set(names))
        twice = tuple(name for name in self.manifest.input_names if names.count(name) > 1)
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
        kind = kind_of(self.booster)
        dart = kind == "dart" and self.manifest.base_margin
        return bool(kind == "gblinear" or self.device == "cuda" or self._indexes is None or dart)

    def _predict(
        self, columns: list[FeatureColumn], margins: list[FeatureColumn], threads: int | None, by_frame: bool
    ) -> Numbers:
        """Predict as (rows, outputs), with the rounds, base margin and link of the manifest."""
        rows = len(columns[0].values)
        if not rows:
            return np.empty((0, len(self.manifest.score_columns)), np.float32)
        few = rows <= _FEW_ROWS and not by_frame and not self._needs_matrix
        booster = self.booster if threads is None else self._booster_with(threads)
        rounds = (0, self.manifest.rounds)
        link = self.manifest.link or ("softmax" if self.manifest.objective == "multi:softmax" else None)
        base = _stack_margins(margins)
        frame = build_array(columns) if few else build_frame(columns, self._indexes)
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


def _stack_margins(margins: list[FeatureColumn]) -> Numbers | None:
    """Return base margins as XGBoost takes them: (rows), or (rows, outputs) of a model with several."""
    if not margins:
        return None
    base = np.column_stack([m.values for m in margins]).astype(np.float32)
    return base[:, 0] if base.shape[1] == 1 else base
