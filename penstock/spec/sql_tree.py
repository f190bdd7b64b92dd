"""DuckDB's parse tree of a select, and what is known of DuckDB's functions."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import duckdb

Node = dict[str, Any]
FunctionKind = Literal["unsteady", "aggregate"]

CLOCK_NAMES = frozenset({"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"})
"""Names that DuckDB reads as the clock if no column has them."""
_UNSTEADY = ("current_localtimestamp", "current_localtime", "get_current_time")
"""Functions that read the clock, although DuckDB calls them consistent. `age` with one argument is a further one."""


@cache
def _parser(process: int) -> "duckdb.DuckDBPyConnection":
    """Open the DuckDB of this process, which parses and has no tables. Opening one takes 15 ms.

    Args:
        process: Its ID. A fork opens its own, and keeps its parent's, since closing it there crashes.
    """
    import duckdb  # not above: a spec without SQL loads faster without it

    return duckdb.connect(":memory:", config={"threads": 1})


def serialize(text: str) -> Node:
    """Parse SQL into DuckDB's tree. The key `error` says whether it is no single select."""
    with _parser(os.getpid()).cursor() as connection:
        row = connection.execute("select json_serialize_sql(?)", [text]).fetchone()
    assert row is not None
    parsed: Node = json.loads(row[0])
    return parsed


def walk(part: Any, into: frozenset[str] | None = None) -> Iterator[Node]:
    """Yield every node of a tree.

    Args:
        into: classes of nodes to yield without their children; None: all nodes have their children.
    """
    if isinstance(part, dict):
        yield part
        if into is not None and part.get("class") in into:
            return
    for child in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from walk(child, into)


def function_kind(node: Node) -> FunctionKind | None:
    """Return whether a function's node reads many rows, or changes with each call. None: neither."""
    name = str(node["function_name"]).casefold()
    if name == "age" and len(node.get("arguments", ())) == 1:
        return "unsteady"  # up to the present day
    return _functions().get(name)


@lru_cache(maxsize=1)
def _functions() -> dict[str, FunctionKind]:
    with _parser(os.getpid()).cursor() as connection:
        found = connection.execute(
            "select lower(function_name), function_type, stability, macro_definition from duckdb_functions()"
        ).fetchall()
    return judge_functions(found)


def judge_functions(found: Sequence[tuple[str, str, str, str]]) -> dict[str, FunctionKind]:
    """Return the functions that read many rows or change with each call.

    Args:
        found: name, type, stability and a macro's SQL of each form of each function of DuckDB.
    """
    known: dict[str, FunctionKind] = dict.fromkeys(_UNSTEADY, "unsteady")
    # DuckDB 2.0.1 calls what depends on the session's time zone less steady, in forms of `hour` or `-`. Ours is UTC.
    steady = {name for name, kind, stability, _ in found if kind == "scalar" and stability == "CONSISTENT"}
    for name, kind, _, _ in found:
        if kind in ("aggregate", "window"):
            known[name] = "aggregate"
        elif kind == "scalar" and name not in steady:
            known[name] = "unsteady"
    macros = [(name, _words(body)) for name, kind, _, body in found if kind == "macro"]
    for _ in range(2):  # a macro may call another one
        for name, words in macros:
            kinds = {known.get(word) for word in words if word != "error"}
            if words & CLOCK_NAMES or "unsteady" in kinds:
                known.setdefault(name, "unsteady")
            elif "aggregate" in kinds:
                known.setdefault(name, "aggregate")
    return known


def _words(sql: str) -> set[str]:
    """Return the words of SQL outside of its literals, in lower case."""
    return set(re.findall(r"\w+", re.sub(r"'(?:[^']|'')*'", "", sql).casefold()))
