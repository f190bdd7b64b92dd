"""Import a Pipeline: write its features query and its model, and verify both by the Pipeline's own outputs."""

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Never

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from penstock.database.decimals import to_float
from penstock.database.normalize import normalized
from penstock.errors import ModelMismatch, ModelRefused
from penstock.models.columns import is_number, is_text
from penstock.models.sklearn_pipelines.skops_file import load_pipeline
from penstock.models.sklearn_pipelines.sql_columns import (
    NULL,
    SqlColumn,
    UntranslatedError,
    check_numbers,
    identifier,
)
from penstock.models.sklearn_pipelines.translate import missing_of, translate_step
from penstock.run.features import build_features
from penstock.spec.parts import twin_names
from penstock.spec.pipeline import Pipeline
from penstock.spec.sources import ROW_ID
from penstock.wording import plural

if TYPE_CHECKING:
    from penstock.models.manifest import Manifest
    from penstock.models.registry import Registry

_Numbers = npt.NDArray[Any]
_STATEMENT_SECONDS = 1800
_ROWS = "rows_of_pipeline"
"""The name of the source in the query that verifies."""


@dataclass(frozen=True)
class ImportedPipeline:
    """A registered model, and the query that makes its features of the Pipeline's input columns."""

    manifest: "Manifest"
    features_sql: str
    verified_rows: int


def import_pipeline(
    registry: "Registry",
    name: str,
    file: Path,
    rows: pa.Table,
    *,
    source: str,
    key: Sequence[str] = (ROW_ID,),
    alias: str | None = None,
    by: str = "",
) -> ImportedPipeline:
    """Translate a Pipeline whose last step is XGBoost, verify it on rows, and register its model.

    Args:
        file: a skops file with the fitted Pipeline.
        rows: rows as a source gives them, with the Pipeline's input columns.
        source: the source's name in the features query.
        key: the key that the features query selects.
        alias: alias to move to the new version.
        by: who imports it, for the history of the alias.

    Raises:
        ModelRefused: a step has no translation, or a feature or an output differs from the Pipeline's own.
        ModelMismatch: the rows lack a column.
    """
    rows = normalized(rows)
    pipeline = load_pipeline(name, file, version("xgboost"))
    columns = _input_columns(name, pipeline, rows, key)
    frame = _frame(name, pipeline, rows, columns)
    made = _translate(name, pipeline, rows, columns)
    theirs, outputs, is_sparse = _run_pipeline(name, pipeline, frame)
    if is_sparse:  # XGBoost takes what a sparse matrix does not store for missing
        made = [replace(column, sql=f"nullif({column.sql}, 0e0)") for column in made]
    booster = pipeline.steps[-1][1].get_booster()
    made = _named(name, made, booster.feature_names, key)
    missing = _missing_value(pipeline.steps[-1][1])
    features = _build(rows, made)
    _compare(name, features, theirs, missing)
    expected = _expected(outputs, hasattr(pipeline, "predict_proba"))
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.ubj"
        model.write_bytes(bytes(booster.save_raw("ubj")))
        manifest = registry.register(
            name, model, features, alias, by=by,
            missing=missing, expected=expected, features=[column.name for column in made],
        )  # fmt: skip
    return ImportedPipeline(manifest, write_query(made, source, key), rows.num_rows)


def write_query(columns: Sequence[SqlColumn], source: str, key: Sequence[str]) -> str:
    """Write a features query that selects the key and computes the columns."""
    selected = [identifier(column) for column in key] + [f"{c.sql} as {identifier(c.name)}" for c in columns]
    return "select\n  " + ",\n  ".join(selected) + f"\nfrom {identifier(source)}\n"  # names, quoted


def _input_columns(model: str, pipeline: Any, rows: pa.Table, key: Sequence[str]) -> list[str]:
    """Return the names of the Pipeline's input columns: those of the rows, in order, if it was fitted on an array."""
    first = _first_step(pipeline)
    names = getattr(first, "feature_names_in_", None)
    if names is not None:
        lacking = tuple(str(column) for column in names if column not in rows.column_names)
        if lacking:
            raise ModelMismatch(model, lacking, "needs columns that the rows do not have")
        return [str(column) for column in names]
    count = int(first.n_features_in_)
    columns = [column for column in rows.column_names if column not in key]
    if len(columns) != count:
        _refuse(
            model,
            f"its Pipeline was fitted on {plural(count, 'column')} without names, and the rows have {len(columns)} "
            "beside the key. Give rows with these columns, in the order of the training.",
        )
    return columns


def _frame(model: str, pipeline: Any, rows: pa.Table, columns: Sequence[str]) -> Any:
    """Build what the Pipeline takes: a frame, or an array if it was fitted on one."""
    known_as = missing_of(pipeline)
    if len(known_as) > 1:
        _refuse(model, "its steps tell None from NaN, and a source has one NULL. Fit it with one of them.")
    gap = None if known_as == {"None"} else np.nan
    frame = pd.DataFrame({column: _series(rows.column(column), gap) for column in columns})
    return frame if hasattr(_first_step(pipeline), "feature_names_in_") else frame.to_numpy()


def _first_step(pipeline: Any) -> Any:
    """Return the first step that was fitted, which knows the input columns."""
    return next(step for _, step in pipeline.steps if hasattr(step, "n_features_in_"))


def _series(column: "pa.ChunkedArray[Any]", gap: float | None) -> "pd.Series[Any]":
    if pa.types.is_decimal(column.type):
        column = to_float(column)
    if is_text(column.type) or (pa.types.is_boolean(column.type) and column.null_count):
        return pd.Series([gap if value is None else value for value in column.to_pylist()], dtype=object)
    series: pd.Series[Any] = column.to_pandas()
    return series


def _run_pipeline(model: str, pipeline: Any, frame: Any) -> tuple[_Numbers, _Numbers, bool]:
    """Return what reaches XGBoost, with NaN for what a sparse matrix lacks; the outputs; and whether it is sparse."""
    try:
        prepared = pipeline[:-1].transform(frame) if len(pipeline.steps) > 1 else frame
        outputs = (pipeline.predict_proba if hasattr(pipeline, "predict_proba") else pipeline.predict)(frame)
    except (ValueError, TypeError, AttributeError) as error:
        _refuse(model, f"its Pipeline cannot score the rows: {str(error).splitlines()[0]}")
    is_sparse = hasattr(prepared, "tocoo")
    if not is_sparse:
        return _as_numbers(model, prepared), np.asarray(outputs), False
    entries = prepared.tocoo()
    dense = np.full(entries.shape, np.nan, np.float64)
    dense[entries.row, entries.col] = entries.data
    return dense, np.asarray(outputs), True


def _as_numbers(model: str, prepared: Any) -> _Numbers:
    try:
        return np.asarray(prepared, dtype=np.float64)
    except (ValueError, TypeError):
        _refuse(model, "its Pipeline gives text or categories to XGBoost. Encode them in a step before.")


def _translate(model: str, pipeline: Any, rows: pa.Table, columns: Sequence[str]) -> list[SqlColumn]:
    inputs = [_input(column, rows.schema.field(column).type) for column in columns]
    try:
        made = list(inputs)
        for name, step in pipeline.steps[:-1]:
            made = translate_step(name, step, made)
        check_numbers(made)
    except UntranslatedError as error:
        where = f"its step `{error.step}` ({error.kind})" if error.step else "its last step"
        _refuse(model, f"{where} {error.reason}.")
    return made


def _input(name: str, type_: pa.DataType) -> SqlColumn:
    if is_number(type_) or pa.types.is_boolean(type_):
        return SqlColumn(name, f"cast({identifier(name)} as double)")
    if is_text(type_):
        return SqlColumn(name, identifier(name), "text")
    if pa.types.is_null(type_):
        return SqlColumn(name, NULL)
    return SqlColumn(name, identifier(name), str(type_))


def _named(
    model: str, columns: Sequence[SqlColumn], names: Sequence[str] | None, key: Sequence[str]
) -> list[SqlColumn]:
    """Give the columns the names that the model has, or new ones that differ."""
    if names is None:
        names = _new_names([column.name for column in columns], key)
    elif len(names) != len(columns):
        _refuse(
            model,
            f"its Pipeline makes {plural(len(columns), 'column')}, and its model has {plural(len(names), 'feature')}.",
        )
    twins = twin_names([*names, *key])
    if twins:
        _refuse(model, f"features and key have names that differ only in case: {', '.join(twins)}.")
    return [SqlColumn(name, column.sql, column.kind) for name, column in zip(names, columns, strict=True)]


def _new_names(names: Sequence[str], key: Sequence[str]) -> list[str]:
    taken = {column.casefold() for column in key}
    made: list[str] = []
    for name in names:
        plain = re.sub(r"\W", "_", name, flags=re.ASCII)
        plain = f"f_{plain}" if not plain or plain.casefold().startswith("penstock_") else plain
        number, free = 1, plain
        while free.casefold() in taken:
            number += 1
            free = f"{plain}_{number}"
        taken.add(free.casefold())
        made.append(free)
    return made


def _build(rows: pa.Table, columns: Sequence[SqlColumn]) -> pa.Table:
    """Run the features query over the rows as a run does, and return the features in the rows' order."""
    spec = Pipeline.model_validate(
        {
            "name": "import-sklearn",
            "sources": {_ROWS: {"kind": "files", "path": "rows.parquet", "format": "parquet"}},
            "features": write_query(columns, _ROWS, (ROW_ID,)),
            "model": "imported@1",
            "destination": {"connection": "warehouse", "table": "imported"},
        }
    )
    numbers = pa.array(np.arange(rows.num_rows))
    others = rows.drop_columns([ROW_ID]) if ROW_ID in rows.column_names else rows
    features = build_features(spec, "rows", others.append_column(ROW_ID, numbers), {}, _STATEMENT_SECONDS)
    return features.sort_by(ROW_ID).drop_columns([ROW_ID])


def _missing_value(estimator: Any) -> float | None:
    missing = estimator.missing
    return None if missing is None or np.isnan(missing) else float(missing)


def _compare(model: str, features: pa.Table, theirs: _Numbers, missing: float | None) -> None:
    """Refuse features that differ from the Pipeline's by more than the rounding of 32 bits."""
    for position, name in enumerate(features.column_names):
        ours = features.column(name).to_numpy().astype(np.float32)
        wanted = theirs[:, position].astype(np.float32)
        if missing is not None:
            ours, wanted = (np.where(v == np.float32(missing), np.float32("nan"), v) for v in (ours, wanted))
        with np.errstate(invalid="ignore"):
            near = np.abs(ours - wanted) <= np.spacing(np.abs(wanted))
        differing = np.flatnonzero(~(near | (np.isnan(ours) & np.isnan(wanted))))
        if len(differing):
            row = int(differing[0])
            _refuse(
                model,
                f"the feature `{name}` of row {row} is {ours[row]!s} by SQL and {wanted[row]!s} by the Pipeline; it "
                f"differs in {len(differing):,} of {plural(len(ours), 'row')}. Nothing was registered.",
            )


def _expected(outputs: _Numbers, are_classes: bool) -> pa.Table:
    """Return the outputs as the registration compares them."""
    if are_classes and outputs.shape[1] == 2:
        outputs = outputs[:, 1]
    columns = outputs[:, np.newaxis] if outputs.ndim == 1 else outputs
    names = ["score"] if columns.shape[1] == 1 else [f"score_{number}" for number in range(columns.shape[1])]
    return pa.table({n: pa.array(columns[:, at].astype(np.float64)) for at, n in enumerate(names)})


def _refuse(model: str, reason: str) -> Never:
    raise ModelRefused(model, reason)
