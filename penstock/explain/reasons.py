"""Make the reasons of scores: the features that moved each row's score most."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.errors import SettingsError, nearest
from penstock.models.chain import take_inputs
from penstock.privacy.masking import HIDDEN, MaskingPolicy
from penstock.run.reasons_table import NONE, NOT_SCORED, REASON, UNEXPLAINED
from penstock.run_types import ScoredRows
from penstock.spec.pipeline import Pipeline
from penstock.spec.reasons import Direction, Reasons

if TYPE_CHECKING:
    from penstock.models.booster import Contributions, ModelInputs, ModelVersion
    from penstock.models.manifest import Manifest, Scalar

_BLOCK = 8192
"""Most rows that are explained at once."""
_CELLS = 2**22
"""Most contributions that are made at once: a row has one for each feature and output, of 4 bytes."""
_KINDS: tuple[Any, ...] = (pa.int32(), pa.string(), pa.float64(), pa.string(), pa.string())
_TYPES: dict[str, Any] = dict(zip(REASON, _KINDS, strict=True))


def explain_rows(
    pipeline: Pipeline, reasons: Reasons, rows: pa.Table, model: "ModelVersion", masking: MaskingPolicy
) -> pa.Table:
    """Return the reasons of rows with features and outputs.

    Raises:
        NotAdditive: the contributions of a row do not add up to its margin.
    """
    made = find_scored(pipeline, model, rows)
    left_out = state_keys(rows.filter(pc.invert(made)).select(list(pipeline.key)), NOT_SCORED)
    return pa.concat_tables([left_out, *explain_scored(pipeline, reasons, rows.filter(made), model, masking)])


def explain_scored(
    pipeline: Pipeline,
    reasons: Reasons,
    rows: pa.Table,
    model: "ModelVersion",
    masking: MaskingPolicy,
    check: Callable[[], None] = lambda: None,
) -> Iterator[pa.Table]:
    """Yield the reasons of rows that the deciding model has scored, block by block.

    Args:
        rows: Key columns, and the columns that the model takes.
        check: Called before each block.
    """
    maker = _Maker(pipeline, reasons, model, masking)
    width = (len(model.manifest.features) + 1) * len(model.manifest.score_columns)
    size = max(1, min(_BLOCK, _CELLS // width))
    for begin in range(0, rows.num_rows, size):
        check()
        yield maker.make(rows.slice(begin, size))


def find_scored(pipeline: Pipeline, model: "ModelVersion", rows: pa.Table) -> "pa.BooleanArray":
    """Return for each row whether the deciding model has scored it: its step's `when` may have left it out."""
    deciding = pipeline.name_output(pipeline.steps[-1], model.manifest.outputs[0])
    return pc.is_valid(rows[deciding])


def check_texts(pipeline: Pipeline, manifest: "Manifest") -> None:
    """Check that each text of `reasons` is that of a feature of the deciding model.

    Raises:
        SettingsError: names the feature, and the nearest one.
    """
    for feature in pipeline.reasons.texts if pipeline.reasons else ():
        if feature not in manifest.feature_names:
            raise SettingsError(
                f"`reasons.texts` has a text for `{feature}`, which model `{manifest.label}` does not have",
                nearest(feature, manifest.feature_names).strip() or "Name a feature of the model.",
            )


def join_scores(scored: ScoredRows) -> pa.Table:
    """Return the features of the rows with their outputs and decisions."""
    rows = scored.features.table
    for name in scored.table.column_names:
        if name not in rows.column_names:
            rows = rows.append_column(name, scored.table[name])
    return rows


def state_keys(keys: pa.Table, text: str) -> pa.Table:
    """Return one row for each key that says why it has no reasons."""
    count = keys.num_rows
    values: dict[str, pa.Array[Any]] = {name: pa.nulls(count, kind) for name, kind in _TYPES.items()}
    values |= {"rank": pa.array([UNEXPLAINED] * count, pa.int32()), "text": pa.array([text] * count, pa.string())}
    return _beside(keys, values)


def _beside(keys: pa.Table, values: "dict[str, pa.Array[Any]]") -> pa.Table:
    for name, column in values.items():
        keys = keys.append_column(name, column)
    return keys


@dataclass(frozen=True)
class _Maker:
    """Makes reasons of one model's contributions."""

    pipeline: Pipeline
    reasons: Reasons
    model: "ModelVersion"
    masking: MaskingPolicy

    def make(self, rows: pa.Table) -> pa.Table:
        """Return the reasons of a block of rows."""
        step = self.pipeline.steps[-1]
        inputs = self.model.read_inputs(take_inputs(step, self.model.manifest, rows))
        found = self.model.explain_inputs(inputs)
        places, features = choose_features(found, self.reasons.top, self.reasons.direction)
        keys = rows.select(list(self.pipeline.key))
        names = self.model.manifest.feature_names
        firsts = np.flatnonzero(np.diff(places, prepend=-1))
        ranks = np.arange(len(places)) - np.repeat(firsts, np.diff(firsts, append=len(places))) + 1
        texts = [self.reasons.texts.get(name, name) for name in names]
        values: dict[str, pa.Array[Any]] = {
            "rank": pa.array(ranks, pa.int32()),
            "feature": pa.array([names[f] for f in features], pa.string()),
            "contribution": pa.array(found.values[places, features].astype(np.float64)),
            "value": pa.array(self._write_values(inputs, places, features), pa.string()),
            "text": pa.array([texts[f] for f in features], pa.string()),
        }
        without = np.setdiff1d(np.arange(rows.num_rows), places)
        stated = state_keys(keys.take(pa.array(without, pa.int64())), NONE)
        return pa.concat_tables([_beside(keys.take(pa.array(places, pa.int64())), values), stated])

    def _write_values(self, inputs: "ModelInputs", places: Any, features: Any) -> list[str | None]:
        """Write each feature's value as the model took it. Private ones are hidden."""
        given = self.pipeline.steps[-1].inputs
        hidden = [self.masking.hides([name, given.get(name, name)]) for name in self.model.manifest.feature_names]
        return [
            HIDDEN if hidden[f] else write_value(inputs.columns[f].scalar(int(place)))
            for place, f in zip(places, features, strict=True)
        ]


def choose_features(
    contributions: "Contributions", top: int, direction: Direction
) -> "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]":
    """Return the positions of the rows and features of the reasons: by row, the largest contribution first.

    Of equal contributions, that of the model's earlier feature is first. A contribution of 0 is no reason.
    """
    values = contributions.values
    weight = np.abs(values) if direction == "both" else values if direction == "raises" else -values
    order = np.argsort(-weight, axis=1, kind="stable")[:, :top]
    counts = np.take_along_axis(weight, order, axis=1) > 0
    places, ranks = np.nonzero(counts)
    return places, order[places, ranks]


def write_value(value: "Scalar") -> str | None:
    """Write a feature's value as text. None: it is missing."""
    if value is None or isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else repr(value)
