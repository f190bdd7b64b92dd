"""The request formats of MLflow's scoring server: `POST /invocations`. One refused row refuses the request.

https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally: `dataframe_split`, `dataframe_records`, `instances`,
`inputs`, and CSV. MLflow's client writes a missing value as a bare NaN, which is no JSON. It is NULL here.
"""

import csv
import io
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from starlette.requests import Request

from penstock.errors import RequestError
from penstock.serving.bodies import count_rows, media_type
from penstock.serving.request_rows import NUMBER, SourceColumns, describe_kind
from penstock.serving.scored_request import RequestRows
from penstock.serving.scorer import Scorer

_FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_ONE_OF = "Send one of `dataframe_split`, `dataframe_records`, `instances` and `inputs`."
_INT = re.compile(r"[+-]?[0-9]{1,19}")
_BOOLS = {"true": True, "false": False}


def read_invocation(request: Request, scorer: Scorer, body: bytes, request_id: str, most: int) -> RequestRows:
    """Read the rows of a body in one of MLflow's formats.

    Raises:
        RequestError: it is in none of them, or a row cannot be read.
    """
    pipeline = scorer.pipeline
    columns = scorer.columns[pipeline.primary]
    if media_type(request) == "text/csv":
        rows: Any = _read_csv(body, columns)
    elif media_type(request) == "application/json":
        rows = _read_frame(_parse(body))
    else:
        raise RequestError(
            "the body is neither JSON nor CSV", "content-type", "Send application/json or text/csv.", 415
        )
    others = {name: other.make_table(()) for name, other in scorer.other_columns.items()}
    if isinstance(rows, dict):
        number = max((len(values) for values in rows.values()), default=0)
        _count(number, most)
        return RequestRows(request_id, columns.make_columns(rows, number), others)
    _count(len(rows), most)
    return RequestRows(request_id, columns.make_table(rows), others)


def _count(rows: int, most: int) -> None:
    if not rows:
        raise RequestError("there are no rows", "body", "Send the rows to score.")
    count_rows(rows, most)


def _parse(body: bytes) -> Mapping[str, Any]:
    try:
        parsed = json.loads(body.decode(), parse_constant=_read_constant, parse_float=_read_number)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else "it is not JSON"
        raise RequestError(f"the body cannot be read: {reason}", "body", _ONE_OF) from None
    if not isinstance(parsed, dict):
        raise RequestError(f"the body is {describe_kind(parsed)}", "body", _ONE_OF)
    return parsed


def _read_constant(name: str) -> None:
    if name != "NaN":
        raise ValueError(name)


def _read_frame(body: Mapping[str, Any]) -> "list[Any] | dict[str, Any]":
    """Return the rows as objects, or the columns by name."""
    given = [name for name in _FORMATS if name in body]
    if len(given) != 1:
        raise RequestError(f"the body has {len(given)} of the formats", "body", _ONE_OF)
    [name] = given
    value = body[name]
    if name == "dataframe_split":
        return _read_split(value)
    if isinstance(value, dict) and name != "dataframe_records":
        if not all(isinstance(column, list) for column in value.values()):
            raise RequestError("a column is no list", name, "Send a list for each column.")
        return {str(column): values for column, values in value.items()}
    if not isinstance(value, list):
        raise RequestError(f"`{name}` is {describe_kind(value)}", "body", "Send a list of rows.")
    return value


def _read_split(value: Any) -> dict[str, Any]:
    names, data = (value.get("columns"), value.get("data")) if isinstance(value, dict) else (None, None)
    if not isinstance(names, list) or not isinstance(data, list) or not all(isinstance(name, str) for name in names):
        raise RequestError("`dataframe_split` lacks `columns` or `data`", "body", "Send both, as pandas writes them.")
    _refuse_twins(names)
    for number, row in enumerate(data):
        if not isinstance(row, list) or len(row) != len(names):
            raise RequestError(
                "the row has not one value for each column", f"row {number}", "Send as many as `columns`."
            )
    return {name: [row[at] for row in data] for at, name in enumerate(names)}


def _read_csv(body: bytes, columns: SourceColumns) -> list[dict[str, Any]]:
    """Return the rows of a CSV file with a header. An empty field is NULL. Excel's byte order mark is left out."""
    try:
        names, *rows = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
    except (ValueError, csv.Error):  # no UTF-8, or no line at all
        raise RequestError("the body is no CSV in UTF-8", "body", "Send a header and comma-separated rows.") from None
    _refuse_twins(names)
    for number, row in enumerate(rows):
        if len(row) != len(names) and not (len(names) == 1 and not row):  # an empty line is an empty field
            raise RequestError(
                "the row has not one field for each column", f"row {number}", "Send as many as the header."
            )
    kinds = [columns.types.get(name) for name in names]
    read = [map(_read_field, row or [""], kinds) for row in rows]
    return [dict(zip(names, values, strict=True)) for values in read]


def _refuse_twins(names: list[str]) -> None:
    if len(set(names)) < len(names):
        raise RequestError("a column is there twice", "body", "Send each column once.")


def _read_field(text: str, kind: pa.DataType | None) -> Any:
    """Return the value that the field's text stands for. Other text stays, and its type refuses it."""
    if text == "":
        return None
    if kind == pa.int64():
        return int(text) if _INT.fullmatch(text) else text
    if kind == pa.bool_():
        return _BOOLS.get(text.lower(), text)
    if kind == pa.float64() and text.lower() == "nan":
        return None
    if kind == pa.float64() and NUMBER.fullmatch(text):
        return _read_number(text)
    return text


def _read_number(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise RequestError("a number is beyond 64 bits", "body", "Send `null` or an empty field for no value.")
    return number
