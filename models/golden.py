"""Golden rows: a few inputs with the outputs they gave at registration, scored again on every load."""

from typing import Any

import numpy as np
import pyarrow as pa

from penstock.errors import ModelRefused
from penstock.models.columns import FeatureColumn, golden_array
from penstock.models.manifest import GoldenRow, Manifest, Scalar

GOLDEN_ROWS = 5
TOLERANCE = 1e-6
"""As a share of the largest absolute value that the golden rows expect of an output."""
REGISTER_AGAIN = "Register the file again as a new version."


def choose_rows(columns: list[FeatureColumn], rows: int, refused: set[int]) -> list[int]:
    """Choose positions spread evenly over the rows that can be scored, one with a missing value among them if any."""
    usable = np.setdiff1d(np.arange(rows), np.fromiter(refused, np.int64, len(refused)))
    if not len(usable):
        return []
    chosen = {int(usable[at]) for at in np.linspace(0, len(usable) - 1, GOLDEN_ROWS).round().astype(int)}
    missing = np.zeros(rows, np.bool_)
    for column in columns:
        missing |= column.values < 0 if column.feature.dtype == "category" else np.isnan(column.values)
    with_missing = usable[missing[usable]]
    if len(with_missing) and not missing[list(chosen)].any():
        chosen.add(int(with_missing[0]))
    return sorted(chosen)


def read_inputs(columns: list[FeatureColumn], rows: list[int]) -> list[dict[str, Scalar]]:
    """The inputs of the chosen rows as a manifest keeps them."""
    return [{column.feature.name: column.scalar(row) for column in columns} for row in rows]


def golden_table(manifest: Manifest) -> pa.Table:
    """The golden rows' inputs as a table that `ModelVersion.score` takes."""
    return pa.table(
        {f.name: golden_array(f, [row.inputs.get(f.name) for row in manifest.golden]) for f in manifest.features}
    )


def with_outputs(inputs: list[dict[str, Scalar]], scored: pa.Table) -> tuple[GoldenRow, ...]:
    return tuple(GoldenRow(inputs=given, outputs=gave) for given, gave in zip(inputs, scored.to_pylist(), strict=True))


def check_golden_rows(manifest: Manifest, scored: pa.Table, xgboost: str) -> None:
    """Raise `ModelRefused` where an output differs from the registered one by more than `TOLERANCE`."""
    if not manifest.golden:
        raise ModelRefused(manifest.label, f"its manifest holds no golden rows. {REGISTER_AGAIN}")
    for output in manifest.outputs:
        expected: list[Any] = [row.outputs.get(output) for row in manifest.golden]
        allowed = TOLERANCE * max((abs(value) for value in expected if isinstance(value, float)), default=0.0)
        got: list[Any] = scored.column(output).to_pylist()
        for row, (gives, wanted) in enumerate(zip(got, expected, strict=True)):
            is_number = isinstance(wanted, float) and isinstance(gives, float)
            if abs(gives - wanted) > allowed if is_number else gives != wanted:
                raise ModelRefused(
                    manifest.label,
                    f"golden row {row} gives `{output}` {gives!r} where {wanted!r} was registered. The XGBoost here "
                    f"({xgboost}) scores it otherwise than at registration; do not use it in this environment.",
                )
