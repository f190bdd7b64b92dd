"""Convert texts to a declared type, in bulk. Texts that do not fit are reported, never repaired."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute

from penstock.database.types import TIMESTAMP
from penstock.sources.logs.times import read_epoch, read_iso
from penstock.sources.logs.zones import LocalZone

pc: Any = pyarrow.compute  # the stubs allow neither strings nor NULL as operands

ValueKind = Literal["string", "int", "float", "bool", "timestamp"]
ARROW_TYPES: dict[ValueKind, pa.DataType] = {
    "string": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "timestamp": TIMESTAMP,
}


def declared_schema(columns: Mapping[str, ValueKind]) -> pa.Schema:
    """Return the columns of lines whose fields are declared: the time, the fields, and the line itself."""
    declared = [(name, ARROW_TYPES[kind]) for name, kind in columns.items()]
    return pa.schema([("time", TIMESTAMP), *declared, ("line", pa.string())])


def select_fields(schema: pa.Schema, columns: Collection[str] | None) -> pa.Schema:
    """Return the fields of some columns. None: all."""
    return schema if columns is None else pa.schema([field for field in schema if field.name in columns])


def capture(texts: Any, pattern: str, groups: Collection[str]) -> dict[str, Any]:
    """Return some groups of a pattern as columns. Each further group would take time.

    Args:
        pattern: one of Penstock's own. Outside of groups it must not contain `(?P<`.
        groups: names, at least one of them of a group.
    """
    found = pc.extract_regex(texts, pattern=narrow(pattern, groups))
    return {found.type.field(i).name: pc.struct_field(found, i) for i in range(found.type.num_fields)}


def narrow(pattern: str, groups: Collection[str]) -> str:
    """Return the pattern with some of its named groups. The others do not capture."""
    return re.sub(r"\(\?P<(\w+)>", lambda group: group[0] if group[1] in groups else "(?:", pattern)


_INT = r"^(?:\+|(?P<sign>-))?0*(?P<digits>[0-9]{1,19})(?:\.0*)?$"
_FLOAT = r"^[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$"
_MAX_INT = "9223372036854775807"


@dataclass(frozen=True)
class Values:
    """A column of values, NULL if the text was NULL or wrong, and a mask of the wrong texts."""

    values: Any
    wrong: pa.BooleanArray


def read_values(texts: pa.StringArray, kind: ValueKind, local: LocalZone | None = None) -> Values:
    """Read texts as a type: 64-bit integers (`5.0` is one), finite floats, true/false/1/0, ISO 8601 or epoch.

    Times without offset are in the local zone, or UTC.
    """
    values = _read_timestamp(texts, local) if kind == "timestamp" else _READERS[kind](texts)
    return Values(values, pc.and_(pc.is_valid(texts), pc.is_null(values)))


def replace_text(texts: pa.StringArray, absent: tuple[str, ...]) -> pa.StringArray:
    """Return the texts, with NULL for the absent ones."""
    kept: pa.StringArray = pc.if_else(
        pc.is_in(texts, pa.array(absent, pa.string())), pa.scalar(None, pa.string()), texts
    )
    return kept


def read_int(texts: pa.StringArray) -> Any:
    """Read 64-bit integers. NULL if the text is not one."""
    if pc.all(pc.match_substring_regex(texts, r"^-?[0-9]{1,18}$")).as_py() is not False:
        return pc.cast(texts, pa.int64())
    parts = pc.extract_regex(texts, pattern=_INT)
    sign, digits = pc.struct_field(parts, 0), pc.struct_field(parts, 1)
    fits = pc.or_(pc.less(pc.utf8_length(digits), 19), pc.less_equal(digits, _MAX_INT))
    return pc.cast(pc.if_else(fits, pc.binary_join_element_wise(sign, digits, ""), None), pa.int64())


def _read_float(texts: pa.StringArray) -> Any:
    shaped = pc.match_substring_regex(texts, _FLOAT)
    numbers = pc.cast(pc.utf8_ltrim(pc.if_else(shaped, texts, None), "+"), pa.float64())
    return pc.if_else(pc.is_finite(numbers), numbers, None)


def _read_bool(texts: pa.StringArray) -> Any:
    lower = pc.utf8_lower(texts)
    yes, no = (pc.is_in(lower, pa.array(words)) for words in (["true", "1"], ["false", "0"]))
    return pc.if_else(pc.or_(yes, no), yes, None)


def _read_timestamp(texts: pa.StringArray, local: LocalZone | None) -> Any:
    return pc.coalesce(read_iso(texts, local), read_epoch(texts))


_READERS = {
    "string": lambda texts: texts,
    "int": read_int,
    "float": _read_float,
    "bool": _read_bool,
}
