"""The Open Inference Protocol, version 2: one tensor a column. One refused row refuses the request.

https://github.com/open-inference/open-inference-protocol (REST), and the extension for binary tensors, which NVIDIA's
client uses unless it is told not to: the JSON is followed by the bytes of the tensors, little-endian.
"""

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from starlette.requests import Request

from penstock.errors import RequestError
from penstock.serving.bodies import count_rows, media_type
from penstock.serving.request_rows import describe_kind
from penstock.serving.scored_request import RequestRows
from penstock.serving.scorer import Scorer

HEADER_LENGTH = "inference-header-content-length"
_LENGTH = re.compile(r"[0-9]{1,18}")
_DTYPES = {
    "BOOL": "?",
    **{f"INT{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
}
_BYTES = "BYTES"


@dataclass(frozen=True)
class InferRequest:
    """A request to infer: its rows, and how to answer."""

    rows: RequestRows
    id: str
    binary: bool
    """Whether outputs are binary where the request does not say it for one of them."""
    outputs: Mapping[str, bool | None]
    """The outputs that are asked for, and whether each is binary. Empty: all."""


def read_infer(request: Request, scorer: Scorer, body: bytes, request_id: str, most: int) -> InferRequest:
    """Read the rows of a request to infer. NaN in a tensor is NULL.

    Raises:
        RequestError: the body or a tensor cannot be read.
    """
    head, rest = _split(request, body)
    given = head.get("inputs")
    if not isinstance(given, list) or not given or not all(isinstance(each, dict) for each in given):
        raise RequestError("`inputs` is no list of tensors", "inputs", "Send one tensor for each column.")
    columns: dict[str, list[Any]] = {}
    rows = None
    for tensor in given:
        name, values, rest = _read_tensor(tensor, rest)
        if name in columns or (rows is not None and rows != len(values)):
            raise RequestError(
                "a tensor is there twice, or has other rows than the first",
                f"input `{name}`",
                "Send one tensor of the same length for each column.",
            )
        columns[name], rows = values, len(values)
    if rest:
        raise RequestError("bytes are left after the last tensor", "body", "Give each tensor its `binary_data_size`.")
    assert rows is not None
    count_rows(rows, most)
    pipeline = scorer.pipeline
    primary = scorer.columns[pipeline.primary].make_columns(columns, rows)
    others = {name: other.make_table(()) for name, other in scorer.other_columns.items()}
    mine = head.get("id")
    return InferRequest(
        RequestRows(request_id, primary, others),
        mine if isinstance(mine, str) else request_id,
        bool(_parameters(head).get("binary_data_output", False)),
        dict(_asked(head)),
    )


def _split(request: Request, body: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the JSON of the body, and the bytes after it. NVIDIA's client declares no type."""
    if media_type(request) not in ("application/json", "application/octet-stream", ""):
        raise RequestError("the body is declared as another format", "content-type", "Send application/json.", 415)
    length = request.headers.get(HEADER_LENGTH, str(len(body)))
    if not _LENGTH.fullmatch(length) or int(length) > len(body):
        raise RequestError("it is no length of the JSON", HEADER_LENGTH, "Send the number of bytes of the JSON.")
    try:
        head = orjson.loads(body[: int(length)])
    except orjson.JSONDecodeError:
        raise RequestError("the body is not JSON", "body", "Send a request of the Open Inference Protocol.") from None
    if not isinstance(head, dict):
        raise RequestError(f"the body is {describe_kind(head)}", "body", "Send a JSON object.")
    return head, body[int(length) :]


def _parameters(part: Mapping[str, Any]) -> Mapping[str, Any]:
    found = part.get("parameters", {})
    if not isinstance(found, dict):
        raise RequestError(f"`parameters` is {describe_kind(found)}", "parameters", "Send an object, or leave it out.")
    return found


def _asked(head: Mapping[str, Any]) -> Iterator[tuple[str, bool | None]]:
    asked = head.get("outputs", [])
    for each in asked if isinstance(asked, list) else [asked]:
        if not isinstance(each, dict) or not isinstance(each.get("name"), str):
            raise RequestError("an output has no name", "outputs", "Send objects with a `name`.")
        binary = _parameters(each).get("binary_data")
        yield each["name"], binary if isinstance(binary, bool) else None


def _read_tensor(tensor: Mapping[str, Any], rest: bytes) -> tuple[str, list[Any], bytes]:
    """Return the name and the values of a tensor, and the bytes after it."""
    name, shape, kind = tensor.get("name"), tensor.get("shape"), tensor.get("datatype")
    where = f"input `{name[:60]}`" if isinstance(name, str) else "inputs"
    if not isinstance(name, str) or kind not in (*_DTYPES, _BYTES):
        raise RequestError("a tensor has no name, or no data type of the protocol", where, "Send both.")
    sizes = shape if isinstance(shape, list) else []
    if not (
        sizes
        and all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in sizes)
        and sizes[1:] in ([], [1])
        and sizes[0]
    ):
        raise RequestError("the shape is not that of one column", where, "Send [rows] or [rows, 1].")
    size = _parameters(tensor).get("binary_data_size")
    if size is None:
        values = _flatten(tensor.get("data"))
    else:
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(rest):
            raise RequestError("there are not as many bytes as `binary_data_size` says", where, "Send all of them.")
        values, rest = _read_bytes(rest[:size], str(kind), where), rest[size:]
    if len(values) != sizes[0]:
        raise RequestError("there are not as many values as the shape says", where, "Send one for each row.")
    return name, [None if isinstance(value, float) and value != value else value for value in values], rest


def _flatten(data: Any) -> list[Any]:
    values = data if isinstance(data, list) else []
    return [each[0] if isinstance(each, list) and len(each) == 1 else each for each in values]


def _read_bytes(content: bytes, kind: str, where: str) -> list[Any]:
    if kind == _BYTES:
        return list(_read_texts(content, where))
    dtype = np.dtype(_DTYPES[kind])
    if len(content) % dtype.itemsize:
        raise RequestError("the bytes end within a value", where, "Send whole values.")
    values: list[Any] = np.frombuffer(content, dtype).tolist()
    return values


def _read_texts(content: bytes, where: str) -> Iterator[str]:
    at = 0
    while at < len(content):
        end = at + 4 + (struct.unpack_from("<I", content, at)[0] if at + 4 <= len(content) else len(content))
        try:
            if end > len(content):
                raise ValueError
            yield content[at + 4 : end].decode()
        except ValueError:
            raise RequestError(
                "the bytes are no texts in UTF-8 with their lengths", where, "Send them as the protocol says."
            ) from None
        at = end


def describe_columns(scorer: Scorer) -> list[dict[str, Any]]:
    """Return the tensors that a request has."""
    columns = scorer.columns[scorer.pipeline.primary]
    return [{"name": name, "datatype": _kind(kind), "shape": [-1]} for name, kind in columns.types.items()]


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_boolean(kind):
        return "BOOL"
    if pa.types.is_integer(kind):
        return "INT64"
    return "FP64" if pa.types.is_floating(kind) else _BYTES


def write_outputs(infer: InferRequest, table: pa.Table, head: dict[str, Any]) -> tuple[bytes, dict[str, str]]:
    """Return the body of an answer, and its headers.

    Args:
        table: the outputs of the rows, in their order.
        head: the other keys of the answer.

    Raises:
        RequestError: an output is unknown, or has no value where the binary form has no place for that.
    """
    described, binary = [], []
    for name in infer.outputs or table.column_names:
        if name not in table.column_names:
            raise RequestError("the model does not give it", f"output `{name[:60]}`", "Leave it out.")
        column = table[name]
        tensor: dict[str, Any] = {"name": name, "datatype": _kind(column.type), "shape": [table.num_rows]}
        asked = infer.outputs.get(name)
        if infer.binary if asked is None else asked:
            content = _write_binary(name, column)
            tensor["parameters"] = {"binary_data_size": len(content)}
            binary.append(content)
        else:
            plain = _kind(column.type) != _BYTES
            tensor["data"] = [v if plain or v is None else _write_text(v) for v in column.to_pylist()]
        described.append(tensor)
    written = orjson.dumps(head | {"outputs": described})
    if not binary:
        return written, {"content-type": "application/json"}
    headers = {"content-type": "application/octet-stream", HEADER_LENGTH: str(len(written))}
    return written + b"".join(binary), headers


def _write_text(value: Any) -> str:
    """Write a value as the JSON of the other formats has it."""
    return value.isoformat() if isinstance(value, date) else str(value)


def _write_binary(name: str, column: "pa.ChunkedArray[Any]") -> bytes:
    kind = _kind(column.type)
    if kind != "FP64" and column.null_count:
        raise RequestError(
            "a row has no value, which a binary tensor cannot say",
            f"output `{name}`",
            "Ask for it as JSON: `binary_data: false`.",
        )
    if kind == _BYTES:
        texts = [_write_text(value).encode() for value in column.to_pylist()]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    values = column.to_numpy()
    return np.ascontiguousarray(values, _DTYPES[kind]).tobytes()
