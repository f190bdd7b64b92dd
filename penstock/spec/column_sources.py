"""Find which sources the values of each feature are made of, from DuckDB's parse tree of the features query.

Only the expressions that make a value count, not the conditions that choose its rows. What cannot be told is left out.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock.spec.sql_tree import Node, function_kind, serialize, walk

Sources = frozenset[str]
NOTHING: Sources = frozenset()


class _UnknownPartError(Exception):
    """The origin of a value cannot be told."""


@dataclass(frozen=True)
class _Relation:
    """A relation: the sources of its columns, by name in lower case."""

    columns: Mapping[str, Sources]
    others: Sources | None = None
    """The sources of columns that are not known by name. None: there are no such columns."""

    @property
    def all_sources(self) -> Sources:
        return NOTHING.union(*self.columns.values(), self.others or NOTHING)


@dataclass(frozen=True)
class _Scope:
    """What the expressions of a select can name."""

    relations: tuple[tuple[str, _Relation], ...]
    outer: "_Scope | None" = None
    aliases: Mapping[str, Sources] = field(default_factory=dict)
    """The columns that the select has made before."""

    @property
    def all_sources(self) -> Sources:
        return NOTHING.union(*(relation.all_sources for _, relation in self.relations))

    def find(self, names: Sequence[str]) -> Sources:
        """Return the sources of a column by its parts.

        Raises:
            _UnknownPartError: it cannot be told.
        """
        first = names[0].casefold()
        named = [relation for alias, relation in self.relations if alias == first]
        if named and len(names) > 1:
            return _find_in(named, names[1].casefold())
        try:
            return _find_in([relation for _, relation in self.relations], first, self.aliases)
        except _UnknownPartError:
            if named:  # the name of a relation alone is its row
                return named[0].all_sources
            if self.outer is None:
                raise
            return self.outer.find(names)


def _find_in(relations: Sequence[_Relation], name: str, aliases: Mapping[str, Sources] | None = None) -> Sources:
    found = [relation.columns[name] for relation in relations if name in relation.columns]
    if found:
        return NOTHING.union(*found)  # of several it is the column of `using`
    if aliases and name in aliases:
        return aliases[name]
    others = [relation.others for relation in relations if relation.others is not None]
    if len(others) != 1:
        raise _UnknownPartError
    return others[0]


def find_column_sources(query: str | None, sources: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Return the sources of the features whose origin can be told, by name in lower case.

    Args:
        query: the features query. None: the features are the columns of the first source.
        sources: their columns by name, the primary source first. Empty: they are not known.
    """
    tables = {
        name.casefold(): _Relation(
            {column.casefold(): frozenset({name}) for column in columns}, None if columns else frozenset({name})
        )
        for name, columns in sources.items()
    }
    if query is None:
        primary = next(iter(sources))
        return {column.casefold(): (primary,) for column in sources[primary]}
    parsed = serialize(query)
    if parsed["error"] or len(parsed["statements"]) != 1:
        return {}
    try:
        made = _read_select(parsed["statements"][0]["node"], tables, None)
    except _UnknownPartError:
        return {}
    order = list(sources)
    return {name: tuple(sorted(found, key=order.index)) for name, found in made.columns.items() if found}


Tables = Mapping[str, _Relation]


def _read_select(node: Node, tables: Tables, outer: _Scope | None) -> _Relation:
    known = dict(tables)
    for entry in node.get("cte_map", {}).get("map", ()):
        body = entry["value"]
        known[entry["key"].casefold()] = _rename(_read_select(body["query_node"], known, None), body.get("aliases"))
    if node["type"] == "SET_OPERATION_NODE":
        children = node.get("children") or [child for child in (node.get("left"), node.get("right")) if child]
        return _stack([_read_select(child, known, outer) for child in children])
    if node["type"] != "SELECT_NODE":
        raise _UnknownPartError
    scope = _Scope(tuple(_read_from(node["from_table"], known, outer)), outer)
    made: dict[str, Sources] = {}
    others: Sources | None = None
    for item in node["select_list"]:
        if item.get("class") == "STAR":
            starred = _read_star(item, scope, known)
            made = {**starred.columns, **made}
            others = starred.others if others is None else others | (starred.others or NOTHING)
            continue
        name = item.get("alias") or (item["column_names"][-1] if item.get("class") == "COLUMN_REF" else "")
        within = _Scope(scope.relations, scope.outer, made)
        made.setdefault(str(name or f" {len(made)}").casefold(), _try_expression(item, within, known))
    return _Relation(made, others)


def _rename(relation: _Relation, names: Sequence[str] | None) -> _Relation:
    """Return a relation with other names for its first columns."""
    if not names:
        return relation
    if relation.others is not None:
        raise _UnknownPartError
    old = list(relation.columns)
    renamed = [*(str(name).casefold() for name in names), *old[len(names) :]]
    return _Relation(dict(zip(renamed, relation.columns.values(), strict=False)))


def _stack(relations: Sequence[_Relation]) -> _Relation:
    """Return the rows of several relations one after the other: their columns go by position."""
    first = relations[0]
    if any(each.others is not None or len(each.columns) != len(first.columns) for each in relations):
        raise _UnknownPartError
    places = zip(*(each.columns.values() for each in relations), strict=True)
    return _Relation({name: NOTHING.union(*found) for name, found in zip(first.columns, places, strict=True)})


def _read_from(node: Node | None, tables: Tables, outer: _Scope | None) -> Iterator[tuple[str, _Relation]]:
    if node is None or node["type"] == "EMPTY":
        return
    if node["type"] == "JOIN" and not node.get("alias"):
        yield from _read_from(node["left"], tables, outer)
        yield from _read_from(node["right"], tables, outer)
        return
    name = ""
    if node["type"] == "BASE_TABLE":
        path = node.get("qualified_name", {}).get("path") or [node["table_name"]]
        name = str(path[-1]).casefold()
        if name not in tables:
            raise _UnknownPartError
        relation = tables[name]
    elif node["type"] == "SUBQUERY":
        relation = _read_select(node["subquery"]["node"], tables, outer)
    else:  # such as a table function or a pivot
        raise _UnknownPartError
    yield str(node.get("alias") or name).casefold(), _rename(relation, node.get("column_name_alias"))


def _read_star(item: Node, scope: _Scope, tables: Tables) -> _Relation:
    if item.get("columns") or item.get("rename_list") or item.get("qualified_exclude_list"):
        raise _UnknownPartError
    alias = str(item.get("relation_name") or "").casefold()
    chosen = [relation for name, relation in scope.relations if not alias or name == alias]
    columns: dict[str, Sources] = {}
    for relation in chosen:
        for name, found in relation.columns.items():
            columns[name] = columns.get(name, NOTHING) | found
    gone = {str(name).casefold() for name in item.get("exclude_list") or ()}
    for entry in item.get("replace_list") or ():
        columns[str(entry["key"]).casefold()] = _try_expression(entry["value"], scope, tables)
    others = [relation.others for relation in chosen if relation.others is not None]
    kept = {name: found for name, found in columns.items() if name not in gone}
    return _Relation(kept, NOTHING.union(*others) if others else None)


def _try_expression(item: Node, scope: _Scope, tables: Tables) -> Sources:
    """Return the sources that an expression reads. Empty if that cannot be told."""
    try:
        return _read_expression(item, scope, tables)
    except _UnknownPartError:
        return NOTHING


def _read_expression(item: Any, scope: _Scope, tables: Tables) -> Sources:
    found, counts_rows = set[str](), False
    for node in walk(item, into=frozenset({"SUBQUERY"})):
        kind = node.get("class")
        if kind == "COLUMN_REF":
            found |= scope.find(node["column_names"])
        elif kind == "SUBQUERY":
            found |= _read_expression(node.get("child"), scope, tables) if node.get("child") else NOTHING
            found |= _read_select(node["subquery"]["node"], tables, scope).all_sources
        elif kind in ("STAR", "LAMBDA"):
            raise _UnknownPartError
        counts_rows = counts_rows or kind == "WINDOW" or (kind == "FUNCTION" and function_kind(node) == "aggregate")
    return scope.all_sources if counts_rows and not found else frozenset(found)
