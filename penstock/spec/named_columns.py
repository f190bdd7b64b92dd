"""Find which columns of a source the features query can see, from DuckDB's parse tree.

A column is seen by its name, by a star over its table, or as a field of its table's row. Whatever else may see columns
without their names, such as a natural join or a pivot, sees all of them. So does a part of the tree that is not known.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from penstock.spec.sql_tree import Node, serialize

_QUERIES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_TABLES = frozenset({"BASE_TABLE", "SUBQUERY", "TABLE_FUNCTION", "EXPRESSION_LIST", "EMPTY"})
_JOINS = frozenset({"REGULAR", "CROSS", "ASOF"})
_EXPRESSIONS = frozenset(
    {
        *("BETWEEN", "CASE", "CAST", "COLLATE", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "FUNCTION"),
        *("LAMBDA", "OPERATOR", "STAR", "SUBQUERY", "TYPE", "WINDOW"),
    }
)

Tables = Mapping[str, frozenset[str]]
"""By the name that a select knows a relation by: the table that it is. Empty for a subquery."""


class _UnknownPartError(Exception):
    """A part of the query may see columns without their names."""


@lru_cache(maxsize=64)
def find_named_columns(query: str, source: str) -> frozenset[str] | None:
    """Return the names that the query may give to columns of a source, in lower case. None: it may see all columns.

    The names include those of other relations, functions and texts.
    """
    parsed = serialize(query)
    if parsed["error"] or len(parsed["statements"]) != 1:
        return None
    search = _Search()
    try:
        search.visit(parsed["statements"][0]["node"], {}, frozenset())
    except _UnknownPartError:
        return None
    return None if source.casefold() in search.whole else frozenset(search.names)


@dataclass(frozen=True)
class _Search:
    names: set[str] = field(default_factory=set)
    whole: set[str] = field(default_factory=set)
    """Tables of which the query sees all columns."""

    def visit(self, part: Any, visible: Tables, own: frozenset[str]) -> None:
        """Collect names and whole tables.

        Args:
            visible: the relations of the selects around.
            own: the tables in `from` of the nearest one.
        """
        if isinstance(part, str):
            self.names.add(part.casefold())
        elif isinstance(part, list):
            for child in part:
                self.visit(child, visible, own)
        elif isinstance(part, dict):
            if "cte_map" in part and part["type"] not in _QUERIES:
                raise _UnknownPartError
            if "from_table" in part:
                visible, own = self._enter(part["from_table"], visible)
            self._see(part, visible, own)
            for child in part.values():
                self.visit(child, visible, own)

    def _enter(self, from_table: Node, visible: Tables) -> tuple[Tables, frozenset[str]]:
        """Return the relations that a select can name, and the tables in its `from`."""
        named, own = dict(visible), set[str]()
        for leaf in _leaves(from_table):
            table = _table(leaf)
            if leaf.get("column_name_alias"):  # names by position
                self.whole.update(table)
            alias = str(leaf.get("alias") or next(iter(table), "")).casefold()
            named[alias] = named.get(alias, frozenset()) | table
            own |= table
        return named, frozenset(own)

    def _see(self, node: Node, visible: Tables, own: frozenset[str]) -> None:
        kind = node.get("class")
        if kind is not None and kind not in _EXPRESSIONS:
            raise _UnknownPartError
        if kind == "COLUMN_REF":  # the name of a relation alone is its row
            self.whole.update(visible.get(str(node["column_names"][-1]).casefold(), ()))
        elif kind in ("FUNCTION", "WINDOW"):  # so may be what stands before the point in `visits.to_json()`
            for name in (node.get("catalog"), node.get("schema"), *node.get("qualified_name", {}).get("path", ())[:-1]):
                self.whole.update(visible.get(str(name).casefold(), ()))
        elif kind == "STAR":
            relation = str(node.get("relation_name") or "").casefold()
            if relation and relation not in visible:
                raise _UnknownPartError
            self.whole.update(visible[relation] if relation else own)


def _leaves(node: Node | None) -> Iterator[Node]:
    """Yield the relations of a `from`."""
    if node is None:
        return
    if node["type"] == "JOIN" and node.get("ref_type") in _JOINS and not node.get("alias"):
        yield from _leaves(node["left"])
        yield from _leaves(node["right"])
    elif node["type"] in _TABLES:
        yield node
    else:
        raise _UnknownPartError


def _table(leaf: Node) -> frozenset[str]:
    """Return the name of a table. It may be that of a CTE, which counts as the source of that name too."""
    if leaf["type"] != "BASE_TABLE":
        return frozenset()
    path = leaf.get("qualified_name", {}).get("path") or [leaf["table_name"]]
    return frozenset({str(path[-1]).casefold()})
