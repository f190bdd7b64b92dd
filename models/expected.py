"""Outputs of the training code on the reference rows, compared with those of the registered model."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.errors import ModelRefused
from penstock.models.columns import is_number
from penstock.models.golden import TOLERANCE
from penstock.models.manifest import PREDICTED_CLASS, Manifest
from penstock.wording import plural

if TYPE_CHECKING:
    from penstock.models.booster import ModelVersion

_USUAL_MISSING = (-999.0, -9999.0, -1.0, 0.0)
Expected = str | Sequence[str] | pa.Table
"""Columns of the reference rows, or a table with a row for each of them."""


def read_expected(
    manifest: Manifest, expected: Expected, reference: pa.Table, usable: npt.NDArray[np.int64]
) -> pa.Table:
    """Return the expected outputs of the usable rows under the names of the model's outputs, numbers as float64.

    Columns are matched by name; otherwise as many as there are numeric outputs are taken in order, and a single one of
    a multi-class model is its predicted class.

    Raises:
        ModelRefused: they do not fit the outputs or the rows, or are not complete.
    """
    given = expected if isinstance(expected, pa.Table) else _select(manifest, expected, reference)
    if given.num_rows != reference.num_rows:
        raise ModelRefused(
            manifest.name,
            f"{given.num_rows:,} expected outputs were given for {plural(reference.num_rows, 'reference row')}. "
            "Give one row of outputs for each reference row, in their order.",
        )
    outputs = list(_name_columns(manifest, given.column_names))
    given = given.take(pa.array(usable, pa.int64()))
    columns = [_read_output(manifest, output, given.column(name)) for output, name in outputs]
    return pa.table(columns, names=[output for output, _ in outputs])


def find_differences(scored: pa.Table, expected: pa.Table) -> dict[int, str]:
    """Return position and first differing output of each row that differs by more than `TOLERANCE`.

    A number may differ by this share of itself or, if that is less, of the median of the output's absolute values.
    """
    found: dict[int, str] = {}
    for output in expected.column_names:
        wanted, got = expected.column(output), scored.column(output)
        if output == PREDICTED_CLASS:
            differing = pc.not_equal(wanted, got).to_numpy(zero_copy_only=False)
        else:
            numbers = wanted.to_numpy()
            sizes = np.abs(numbers)
            allowed = TOLERANCE * np.maximum(sizes, np.median(sizes) if len(sizes) else 0.0)
            differing = ~(np.abs(got.to_numpy() - numbers) <= allowed)
        found = {int(row): output for row in np.flatnonzero(differing)} | found
    return dict(sorted(found.items()))


def compare_outputs(version: "ModelVersion", rounds: int | None, rows: pa.Table, expected: pa.Table) -> None:
    """Compare a model's outputs with the expected ones.

    Args:
        rounds: number of boosting rounds in the file.
        rows: the rows of `expected`.

    Raises:
        ModelRefused: some differ. The message names the argument that explains it, if one does.
    """
    scored = version.score(rows)
    differing = find_differences(scored, expected)
    if not differing:
        return
    row, output = next(iter(differing.items()))
    gives, wanted = scored.column(output)[row].as_py(), expected.column(output)[row].as_py()
    remedy = "Give what the training used and the file lacks: `missing`, `base_margin`, `link`, `iterations`."
    for argument, value in _alternatives(version.manifest, rounds):
        other = replace(version, manifest=version.manifest.model_copy(update={argument: value}))
        if not find_differences(other.score(rows), expected):
            remedy = f"They agree with `{argument}` {value}."
            break
    raise ModelRefused(
        version.manifest.name,
        f"its outputs differ from the expected ones in {len(differing):,} of {plural(rows.num_rows, 'row')}; the first "
        f"gives `{output}` {gives!r}, and {wanted!r} is expected. {remedy}",
    )


def _alternatives(manifest: Manifest, rounds: int | None) -> Iterator[tuple[str, object]]:
    """Yield arguments that training code often uses, where the registration gives none."""
    if manifest.iterations is None and manifest.best_iteration is not None:
        yield "iterations", rounds
    if manifest.missing is None:
        yield from (("missing", value) for value in _USUAL_MISSING)
    if manifest.link is None and not manifest.classes:
        yield from (("link", link) for link in ("sigmoid", "exp", "identity"))


def largest_rows(expected: pa.Table) -> list[int]:
    """Return the position of the largest absolute value of each numeric output: golden rows are compared by it."""
    numeric = [name for name in expected.column_names if name != PREDICTED_CLASS]
    return [int(np.argmax(np.abs(expected.column(name).to_numpy()))) for name in numeric]


def _select(manifest: Manifest, columns: str | Sequence[str], reference: pa.Table) -> pa.Table:
    names = [columns] if isinstance(columns, str) else list(columns)
    lacking = [name for name in names if name not in reference.column_names]
    if lacking:
        known = ", ".join(f"`{name}`" for name in reference.column_names)
        raise ModelRefused(
            manifest.name, f"the reference rows have no column `{lacking[0]}` with expected outputs. They have {known}."
        )
    return reference.select(names)


def _name_columns(manifest: Manifest, given: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each output that is compared, and the column that has its expected values."""
    named = [output for output in manifest.outputs if output in given]
    if named and set(manifest.score_columns) <= set(named):
        yield from zip(named, named, strict=True)
    elif len(given) == len(manifest.score_columns):
        yield from zip(manifest.score_columns, given, strict=True)
    elif len(given) == 1 and PREDICTED_CLASS in manifest.outputs:
        yield PREDICTED_CLASS, given[0]
    else:
        outputs = ", ".join(f"`{output}`" for output in manifest.outputs)
        columns = plural(len(given), "column of expected outputs was", "columns of expected outputs were")
        raise ModelRefused(manifest.name, f"{columns} given, and its outputs are {outputs}.")


def _read_output(manifest: Manifest, output: str, column: "pa.ChunkedArray[Any]") -> "pa.ChunkedArray[Any]":
    """Return a column of expected values. None may be NULL or infinite."""
    if output != PREDICTED_CLASS and not is_number(column.type):
        raise ModelRefused(manifest.name, f"the expected values of `{output}` are {column.type}, not numbers.")
    values: pa.ChunkedArray[Any] = column.cast(pa.string() if output == PREDICTED_CLASS else pa.float64())
    lacking = values.null_count
    if output != PREDICTED_CLASS:
        lacking = len(values) - int(np.isfinite(values.to_numpy()).sum())
    if lacking:
        is_null = "is" if lacking == 1 else "are"
        what = f"{plural(lacking, 'expected value')} of `{output}` {is_null} NULL or infinite. Give them."
        raise ModelRefused(manifest.name, what)
    return values
