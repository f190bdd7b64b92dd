"""Golden rows: a few inputs and their outputs at registration, scored again on every load."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.errors import ModelRefused
from penstock.models.columns import FeatureColumn, golden_array
from penstock.models.manifest import Feature, GoldenRow, Manifest, Scalar

GOLDEN_ROWS = 5
TOLERANCE = 1e-6
"""As a share of an output's largest absolute value in the golden rows."""
REGISTER_AGAIN = "Register the file again as a new version."


def choose_golden_rows(columns: list[FeatureColumn], usable: npt.NDArray[np.int64]) -> list[int]:
    """Choose evenly spread positions of rows that can be scored. If any row has a missing value, include one."""
    chosen = {int(usable[at]) for at in np.linspace(0, len(usable) - 1, GOLDEN_ROWS).round().astype(int)}
    missing = np.zeros(len(columns[0].values), np.bool_)
    for column in columns:
        missing |= column.values < 0 if column.feature.dtype == "category" else np.isnan(column.values)
    with_missing = usable[missing[usable]]
    if len(with_missing) and not missing[list(chosen)].any():
        chosen.add(int(with_missing[0]))
    return sorted(chosen)


def read_inputs(columns: list[FeatureColumn], rows: list[int]) -> list[dict[str, Scalar]]:
    """Return the inputs of the chosen rows as a manifest stores them."""
    return [{column.feature.name: column.scalar(row) for column in columns} for row in rows]


def golden_table(manifest: Manifest) -> pa.Table:
    """Build a table of the golden rows' inputs for `ModelVersion.score`."""
    margins = [Feature(name=name, dtype="float") for name in manifest.base_margin]
    columns = {feature.name: feature for feature in (*manifest.features, *margins)}
    return pa.table(
        {name: golden_array(f, [row.inputs.get(name) for row in manifest.golden]) for name, f in columns.items()}
    )


def with_outputs(inputs: list[dict[str, Scalar]], scored: pa.Table) -> tuple[GoldenRow, ...]:
    return tuple(GoldenRow(inputs=given, outputs=gave) for given, gave in zip(inputs, scored.to_pylist(), strict=True))


def check_golden_rows(manifest: Manifest, scored: pa.Table, xgboost: str) -> None:
    """Raise `ModelRefused` where an output differs from the registered one by more than `TOLERANCE`."""
    if not manifest.golden:
        raise ModelRefused(manifest.label, f"its manifest has no golden rows. {REGISTER_AGAIN}")
    for output in manifest.outputs:
        expected: list[Any] = [row.outputs.get(output) for row in manifest.golden]
        allowed = TOLERANCE * max((abs(value) for value in expected if isinstance(value, float)), default=0.0)
        got: list[Any] = scored.column(output).to_pylist()
        for row, (gives, wanted) in enumerate(zip(got, expected, strict=True)):
            is_number = isinstance(wanted, float) and isinstance(gives, float)
            if abs(gives - wanted) > allowed if is_number else gives != wanted:
                raise ModelRefused(
                    manifest.label,
                    f"golden row {row} gives `{output}` {gives!r}, but {wanted!r} was registered. The installed "
                    f"XGBoost ({xgboost}) does not score as at registration; do not use the model in this environment.",
                )
