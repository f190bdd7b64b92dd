"""Fit a booster on an Arrow table, for the demo and the examples.

The last rows, in the table's order or by a time column, are the holdout: a random holdout would evaluate on rows that
are older than some training rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.errors import ModelMismatch, ModelRefused
from penstock.models.booster import fit_booster
from penstock.models.columns import is_number, is_text, read_column
from penstock.models.groups import cut_between_groups, gather_groups
from penstock.models.manifest import PREDICTED_CLASS, Feature, Manifest
from penstock.models.registry import Registry
from penstock.wording import plural

_NAME = "to be trained"
_REFERENCE_ROWS = 10_000
_METRICS = {
    "binary:": ("auc", "logloss"),
    "multi:": ("merror", "mlogloss"),
    "count:": ("rmse", "poisson-nloglik"),
    "rank:": ("ndcg", "ndcg@5"),
}


@dataclass(frozen=True)
class Trained:
    """A trained booster, not yet in a store."""

    content: bytes
    """The UBJSON file."""
    features: tuple[Feature, ...]
    classes: tuple[str, ...]
    metrics: dict[str, float]
    """XGBoost's holdout metrics at the best iteration, without those that are not finite."""
    best_iteration: int | None
    reference: pa.Table
    """Up to 10,000 training rows, spread evenly."""
    trained_from: datetime | None
    trained_until: datetime | None
    group: tuple[str, ...] = ()
    expected: pa.Table | None = None
    """What the booster predicts of the reference rows: the registered version must give the same."""

    def save(self, path: Path) -> Path:
        """Write the model file. Its name ends in `.ubj`."""
        if path.suffix != ".ubj":
            raise ModelRefused(path.name, "a trained model is saved as UBJSON. Use a file name that ends in `.ubj`.")
        path.write_bytes(self.content)
        return path

    def register(self, registry: Registry, name: str, alias: str | None = None) -> Manifest:
        """Register the model as the next version."""
        with TemporaryDirectory() as folder:
            return registry.register(
                name,
                self.save(Path(folder) / "model.ubj"),
                self.reference,
                alias,
                metrics=self.metrics,
                trained_from=self.trained_from,
                trained_until=self.trained_until,
                classes=self.classes,
                group=self.group,
                expected=self.expected,
            )


def train(
    frame: pa.Table,
    label: str,
    features: Sequence[str] | None = None,
    objective: str = "binary:logistic",
    *,
    rounds: int = 200,
    early_stopping: int = 20,
    holdout: float = 0.2,
    order_by: str | None = None,
    group: Sequence[str] = (),
    params: Mapping[str, Any] | None = None,
    seed: int = 7,
) -> Trained:
    """Train on the first rows, evaluate on the last ones, and stop when the holdout metric stops improving.

    Args:
        frame: features and label; NULL features are missing values, a NULL label is an error.
        label: column to predict: a number, or for `multi:*` a class of any type.
        features: columns to learn from; None: all that no other argument names. Text becomes a category.
        objective: an XGBoost objective with one label a row; for `rank:*` the label is the relevance in its group.
        rounds: most trees for each output.
        early_stopping: stop after so many rounds without improvement.
        holdout: share of the rows to evaluate on; 0 trains on all rows, without metrics.
        order_by: column, usually a time, to sort the rows by before the holdout is cut off.
        group: for `rank:*`: columns whose rows with equal values are one group. A group is placed by its first row and
            never split. XGBoost counts a group without a relevant row as ranked right, so leave it out.
        params: other XGBoost parameters.
        seed: the same frame and seed give the same model.

    Raises:
        ModelMismatch: a column is missing, or its type cannot be a feature.
        ModelRefused: the label has NULLs, or XGBoost refuses names, labels or parameters.
    """
    if objective.startswith("survival:"):
        raise ModelRefused(_NAME, f"`{objective}` needs bounds, not one label a row. Train it with XGBoost.")
    if objective.startswith("rank:") != bool(group):
        raise ModelRefused(
            _NAME,
            f"`{objective}` was given {plural(len(group), 'column')} in `group`. Only `rank:*` takes `group`, and "
            "needs it.",
        )
    names = tuple(features or (c for c in frame.column_names if c not in (label, order_by, *group)))
    named = (*names, label, *([order_by] if order_by else []), *group)
    missing = tuple(name for name in named if name not in frame.column_names)
    if missing:
        raise ModelMismatch(_NAME, missing, "needs columns that the frame does not have")
    if order_by is not None:
        frame = frame.sort_by(order_by)
    held_out, groups = round(frame.num_rows * holdout), None
    if group:
        frame, groups = gather_groups(frame, group)
        held_out = frame.num_rows - cut_between_groups(groups, frame.num_rows - held_out)
    learned = tuple(_infer_feature(name, frame.column(name)) for name in names)
    columns = [read_column(feature, frame.column(feature.name)) for feature in learned]
    misfit = next((each for column in columns for each in column.misfits.values()), None)
    if misfit:
        raise ModelRefused(_NAME, f"{misfit.text}. Fix the rows, or leave the column out of `features`.")
    target, classes = _read_label(frame.column(label), label, objective)
    chosen = _parameters(objective, classes, seed) | dict(params or {})
    fitted = fit_booster(columns, target, held_out, rounds, early_stopping, chosen, groups)
    training = frame.slice(0, frame.num_rows - held_out)
    spread = np.unique(np.linspace(0, training.num_rows - 1, _REFERENCE_ROWS).round().astype(np.int64))
    first, last = _span(training, order_by)
    return Trained(
        content=fitted.content,
        features=learned,
        classes=classes,
        metrics=fitted.metrics,
        best_iteration=fitted.best_iteration,
        reference=training.select(list(names)).take(pa.array(spread, pa.int64())),
        trained_from=first,
        trained_until=last,
        group=tuple(group),
        expected=_as_outputs(fitted.predicted[spread], classes),
    )


def _as_outputs(predicted: npt.NDArray[Any], classes: tuple[str, ...]) -> pa.Table:
    """Return predictions as columns, in the order of a model's outputs. Numbers of classes become their labels."""
    if classes and predicted.ndim == 1:
        return pa.table({PREDICTED_CLASS: [classes[int(number)] for number in predicted]})
    columns = [pa.array(column) for column in predicted.reshape(len(predicted), -1).T]
    return pa.table(columns, names=[str(at) for at in range(len(columns))])


def _infer_feature(name: str, column: "pa.ChunkedArray[Any]") -> Feature:
    type_ = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if is_text(type_):
        seen: list[Any] = pc.unique(column.cast(pa.string())).drop_null().to_pylist()
        if not seen:
            raise ModelMismatch(_NAME, (name,), "was given text columns without a value")
        return Feature(name=name, dtype="category", categories=tuple(sorted(seen)))
    dtype: Literal["float", "int", "bool"]
    if pa.types.is_boolean(type_):
        dtype = "bool"
    elif is_number(type_):
        dtype = "int" if pa.types.is_integer(type_) else "float"
    else:
        raise ModelMismatch(_NAME, (name,), f"cannot learn from columns of type {type_}; name others in `features`")
    return Feature(name=name, dtype=dtype)


def _read_label(
    column: "pa.ChunkedArray[Any]", label: str, objective: str
) -> tuple[npt.NDArray[np.float32], tuple[str, ...]]:
    if column.null_count:
        raise ModelRefused(
            _NAME, f"the label `{label}` is NULL in {plural(column.null_count, 'row')}. Leave such rows out."
        )
    if objective.startswith("multi:"):
        values: list[Any] = pc.unique(column).to_pylist()
        known = sorted(values)
        codes = pc.index_in(column, value_set=pa.array(known, column.type))
        return codes.to_numpy().astype(np.float32), tuple(str(value) for value in known)
    if not (is_number(column.type) or pa.types.is_boolean(column.type)):
        raise ModelRefused(
            _NAME, f"the label `{label}` is {column.type}, not a number. Write it as a number (0 and 1)."
        )
    return read_column(Feature(name=label, dtype="float"), column).values.astype(np.float32), ()


def _parameters(objective: str, classes: tuple[str, ...], seed: int) -> dict[str, Any]:
    """Return shallow trees and a slow rate. The last metric of the list decides when XGBoost stops."""
    metrics = next((m for prefix, m in _METRICS.items() if objective.startswith(prefix)), ("mae", "rmse"))
    chosen = {"objective": objective, "max_depth": 5, "eta": 0.1, "seed": seed, "eval_metric": list(metrics)}
    return chosen | ({"num_class": len(classes)} if classes else {})


def _span(training: pa.Table, order_by: str | None) -> tuple[datetime | None, datetime | None]:
    if order_by is None or not pa.types.is_timestamp(training.schema.field(order_by).type) or not training.num_rows:
        return None, None
    span: Any = pc.min_max(training.column(order_by)).as_py()
    return span["min"], span["max"]
