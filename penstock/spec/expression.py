"""One SQL expression of a spec (`when:`, `decide:`), read by DuckDB's own parser before any row is.

It must speak of one row and give the same value each time: so no query inside, no aggregate, no window, no clock and no
dice. What it evaluates to is `deciding`'s matter.
"""

import json
from functools import lru_cache

from penstock.spec.sql_tree import CLOCK_NAMES, Node, function_kind, serialize, walk

ROWS = "penstock_rows"
"""The name of the rows in the query that evaluates the expression."""
_NO_PART = {
    "SUBQUERY": "a query inside",
    "WINDOW": "a window over other rows",
    "STAR": "a star",
    "PARAMETER": "a parameter",
    "DEFAULT": "a default",
    "POSITIONAL_REFERENCE": "a column by its place",
}


@lru_cache(maxsize=256)
def read_expression(text: str, *, aggregate: bool = False) -> frozenset[str]:
    """Return the columns that an expression names, in lower case.

    Args:
        aggregate: it speaks of the rows of one group, by aggregates.

    Raises:
        ValueError: it is no single expression over the columns of one row or group; the message says why.
    """
    if not text.strip():
        raise ValueError("the expression is empty")
    columns: set[str] = set()
    grouped = False
    for node in walk(_parse(text)):
        kind = node.get("class")
        if kind in _NO_PART:
            raise ValueError(f"`{text}` contains {_NO_PART[kind]}; an expression may only use one row and its columns")
        if kind == "COLUMN_REF":
            if len(node["column_names"]) > 1 or node["column_names"] == [ROWS]:
                raise ValueError(f"`{text}` names `{'.'.join(node['column_names'])}`; write a column's name alone")
            columns.add(str(node["column_names"][0]).casefold())
        if kind == "FUNCTION" and aggregate and function_kind(node) == "aggregate":
            grouped = True
        elif kind == "FUNCTION":
            _check_function(text, node)
    if moments := columns & CLOCK_NAMES:
        raise ValueError(_describe_unsteady(text, moments.pop()))
    if aggregate and not grouped:
        raise ValueError(
            f"`{text}` is no aggregate; write one such as `count(*)` or `max({sorted(columns or {'x'})[0]})`"
        )
    return frozenset(columns)


def _parse(text: str) -> Node:
    parsed = _serialize(text)
    if parsed["error"]:
        raise ValueError(f"`{text}` is no SQL expression: {parsed['error_message']}")
    select = [_bare(statement["node"]) for statement in parsed["statements"]]
    if select != [_bare(_serialize("1")["statements"][0]["node"])] or len(_chosen(parsed)) != 1:
        raise ValueError(f"`{text}` is more than one expression")
    [chosen] = _chosen(parsed)
    if chosen.get("function_name") == "row":
        raise ValueError(f"`{text}` is more than one expression")
    return chosen


def _serialize(text: str) -> Node:
    return serialize(f"select (\n{text}\n)")  # on lines of its own, so that a comment cannot swallow the bracket


def _chosen(parsed: Node) -> list[Node]:
    chosen: list[Node] = parsed["statements"][0]["node"]["select_list"]
    return chosen


def _bare(node: Node) -> str:
    """Return the parts around the expression. There must be none, such as a `from` clause."""
    rest = {name: part for name, part in node.items() if name != "select_list"}
    return json.dumps(rest | {"from_table": rest.get("from_table", {}).get("type")}, sort_keys=True)


def _check_function(text: str, node: Node) -> None:
    name = str(node["function_name"]).casefold()
    kind = function_kind(node)
    if kind == "unsteady":
        raise ValueError(_describe_unsteady(text, name))
    if kind is not None or name == "unnest":
        raise ValueError(f"`{text}` calls `{name}`, which needs many rows; an expression may only use one")


def _describe_unsteady(text: str, name: str) -> str:
    return f"`{text}` calls `{name}`, which changes with each call; the same rows must give the same scores"
