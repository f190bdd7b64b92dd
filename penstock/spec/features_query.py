"""Refuse a features query whose result depends on how the primary source's rows are cut into partitions.

The rules follow DuckDB's parse tree from the tables upwards. What reads several rows of the primary source (an
aggregate, a window, `distinct`, a join of the source with itself) must keep rows of one key together, or rows with one
value of `partition_by`. The tree knows no columns of the sources. What it cannot prove is refused.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NoReturn

from penstock.spec.query_relations import Origin, Pairs, Relation, Scope, are_linked, primary_relation, reduced
from penstock.spec.sql_tree import CLOCK_NAMES, Node, function_kind, serialize, walk

_CONSTANT = Relation()
_SPREADS = frozenset({"unnest", "generate_subscripts", "regexp_split_to_table"})
"""Functions that make several rows of one, or none."""
_TABLE_FUNCTIONS = frozenset(
    {"range", "generate_series", "unnest", "repeat", "repeat_row", "json_each", "json_tree", "glob"}
)
"""Functions in `from` that see their arguments alone. Those that read files are refused when the query runs."""
_FULL = ("OUTER", "FULL")
_KINDS = ("INNER", "LEFT", "RIGHT", *_FULL, "SEMI", "ANTI")
_WAYS = ("REGULAR", "CROSS", "NATURAL", "ASOF")
_EQUAL = ("COMPARE_EQUAL", "COMPARE_NOT_DISTINCT_FROM")
_WITHOUT = frozenset({"query_location", "query_location_length", "alias"})


@lru_cache(maxsize=64)
def check_features(query: str, primary: str, key: tuple[str, ...], partition_by: str | None) -> None:
    """Check that each partition's features are the same, however the rows are cut.

    A query that cannot be parsed passes; running it fails with DuckDB's message.

    Raises:
        ValueError: a part of the query looks at other rows of the primary source, at the clock or at chance. The
            message names it and says what to write.
    """
    parsed = serialize(query)
    if parsed["error"]:
        if parsed.get("error_type") == "not implemented" and re.search(r"\bpivot", query, re.IGNORECASE):
            raise ValueError(
                "this is a `pivot` statement, whose columns cannot be checked. Write it as "
                "`select * from … pivot (… for … in (…) group by …)`, with the key after `group by`"
            )
        return
    if len(parsed["statements"]) != 1:
        return
    _refuse_unsteady(parsed)
    result = _Check(primary, key, partition_by).select(parsed["statements"][0]["node"], {}, None)
    if result.kind == "values":
        raise ValueError(f"the query returns no row for each key of `{primary}`; select {_names(key)}")


def _refuse_unsteady(parsed: Node) -> None:
    for node in walk(parsed):
        if node.get("class") == "FUNCTION" and function_kind(node) == "unsteady":
            called = str(node["function_name"])
        elif node.get("class") == "COLUMN_REF" and str(node["column_names"][0]).casefold() in CLOCK_NAMES:
            if len(node["column_names"]) > 1:
                continue
            called = str(node["column_names"][0])
        elif node.get("sample"):
            raise ValueError(
                "the query takes a sample, which changes with each call; the same rows must give the same scores"
            )
        else:
            continue
        raise ValueError(
            f"the query calls `{called}`, which changes with each call; the same rows must give the same scores. Use "
            "a column of the rows instead, such as the event time"
        )


@dataclass(frozen=True)
class _Leaf:
    relation: Relation


@dataclass(frozen=True)
class _Join:
    left: "_Leaf | _Join"
    right: "_Leaf | _Join"
    node: Node
    pairs: Pairs


Ctes = Mapping[str, Relation]


@dataclass(frozen=True)
class _Check:
    """The rules, for one primary source."""

    primary: str
    key: tuple[str, ...]
    partition_by: str | None

    @property
    def together(self) -> tuple[frozenset[str], ...]:
        """Sets of columns. Rows that are equal in all columns of a set are always read together."""
        key = frozenset(c.casefold() for c in self.key)
        return (key, frozenset({self.partition_by.casefold()})) if self.partition_by else (key,)

    def refuse(self, what: str) -> NoReturn:
        by = (
            f"or by `{self.partition_by}` (`partition_by:`)"
            if self.partition_by
            else ("or set `partition_by:` to the column whose rows belong together, and use that column there")
        )
        raise ValueError(
            f"{what} depends on which rows of `{self.primary}` are read together, and a run reads them in "
            f"partitions. Group, partition or join by the key {_names(self.key)}, {by}"
        )

    # --- selects -------------------------------------------------------------------------------

    def select(self, node: Node, around: Ctes, outer: Scope | None) -> Relation:
        """Return the relation of a select, or of a set operation."""
        ctes = dict(around)
        for entry in node.get("cte_map", {}).get("map", ()):
            body = entry["value"]
            made = self.select(body["query_node"], ctes, None).renamed(body.get("aliases") or ())
            ctes[entry["key"].casefold()] = made.named(entry["key"])
        if node["type"] == "SET_OPERATION_NODE":
            return self._limit(node, self._set_operation(node, ctes, outer))
        if node["type"] != "SELECT_NODE":  # such as a recursive query
            if self._reads_primary(node, ctes):
                self.refuse("a recursive query")
            return _CONSTANT
        return self._select(node, ctes, outer)

    def _select(self, node: Node, ctes: Ctes, outer: Scope | None) -> Relation:
        tree, scope = self._from(node["from_table"], ctes, outer)
        where = _pairs(node.get("where_clause"), scope, null_safe=False)
        read = self._judge(tree, where)
        tied = (
            outer is not None
            and read.kind == "rows"
            and any(are_linked(outer.rows, read.passed, where, columns) for columns in self.together)
        )
        if tied:  # a subquery over the rows of the outer row's own key or group
            read = replace(read, kind="constant", passed={})
        self._check_subqueries(node, ctes, scope)
        if read.kind == "constant":
            columns = self._outputs(node, scope)
            return Relation(columns=dict.fromkeys(columns[0]), is_open=columns[1])
        read = self._group(node, scope, read)
        self._check_windows(node, scope, read)
        return self._limit(node, self._distinct(node, scope, read))

    def _group(self, node: Node, scope: Scope, read: Relation) -> Relation:
        """Judge `group by` and aggregates. A grouping without aggregates is a `distinct`."""
        called = next(_aggregates([node["select_list"], node.get("having"), node.get("qualify")]), None)
        groups = [self._group_item(g, node) for g in node["group_expressions"]]
        if node["aggregate_handling"] == "FORCE_AGGREGATES" and not groups:
            groups = [item for item in node["select_list"] if next(_aggregates(item), None) is None]
        if called is None and not groups:
            filters = node.get("where_clause") is not None or node.get("qualify") is not None
            return read.filtered() if filters else read
        origins = [o for g in groups for o in self._item_origins(g, scope)]
        if len(node.get("group_sets") or [0]) > 1:
            self.refuse("`group by` with several groupings")
        if read.covers(origins, self.together):
            return read.filtered()
        if called is None and read.kind == "rows":
            return self._values(origins, read, "`group by`", complete=node.get("where_clause") is None)
        self.refuse(f"`{called}`" if called else "`group by`")

    def _group_item(self, item: Node, node: Node) -> Node:
        """Return the expression of a group, which may be the number of a selected one."""
        literal = item.get("literal") or {}
        if item.get("class") == "CONSTANT" and literal.get("kind") == "INTEGER":
            position = int(literal["text"]) - 1
            if 0 <= position < len(node["select_list"]):
                chosen: Node = node["select_list"][position]
                return chosen
        return item

    def _item_origins(self, item: Node, scope: Scope) -> list[Origin | None]:
        return list(self._star(item, scope)[0].values()) if _is_star(item) else [_origin(item, scope)]

    def _values(self, origins: list[Origin | None], read: Relation, what: str, *, complete: bool) -> Relation:
        """Return the relation of distinct values. It can be joined back if each comes from the row alone."""
        found = [o for o in origins if o is not None]
        bases = read.bases if complete and len(read.passed) == 1 else frozenset()
        if len(found) < len(origins) or len({o.row for o in found}) != 1 or not bases:
            self.refuse(what)
        return replace(read, kind="values", bases=bases, identity=reduced(found))

    def _distinct(self, node: Node, scope: Scope, read: Relation) -> Relation:
        columns, is_open, row, hidden = self._outputs(node, scope)
        spread = any(_calls(item, _SPREADS) for item in node["select_list"])
        made = replace(
            read.filtered() if spread else read, columns=columns, is_open=is_open, open_row=row, hidden=hidden
        )
        for modifier in node["modifiers"]:
            if modifier["type"] != "DISTINCT_MODIFIER":
                continue
            targets = modifier["distinct_on_targets"]
            origins = [o for t in targets for o in self._item_origins(t, scope)] if targets else [*columns.values()]
            if made.covers(origins, self.together):
                continue
            if targets or is_open or made.kind == "values":
                self.refuse("`distinct on`" if targets else "`select distinct`")
            made = self._values(origins, made, "`select distinct`", complete=True)
        return made

    def _limit(self, node: Node, made: Relation) -> Relation:
        for modifier in node["modifiers"]:
            if modifier["type"] in ("LIMIT_MODIFIER", "LIMIT_PERCENT_MODIFIER") and made.kind != "constant":
                self.refuse("`limit`" if modifier.get("limit") is not None else "`offset`")
        return made

    def _check_windows(self, node: Node, scope: Scope, read: Relation) -> None:
        for part in _own_parts([node["select_list"], node.get("qualify"), node["modifiers"]]):
            if part.get("class") == "WINDOW" and not read.covers(
                [_origin(p, scope) for p in part["partitions"]], self.together
            ):
                self.refuse(f"`{part['function_name']}` over a window")

    def _check_subqueries(self, node: Node, ctes: Ctes, scope: Scope) -> None:
        rest = [part for name, part in node.items() if name not in ("from_table", "cte_map")]
        self._check_expressions(rest, ctes, scope)

    def _check_expressions(self, part: Any, ctes: Ctes, scope: Scope) -> None:
        for found in _own_parts(part):
            if found.get("class") == "SUBQUERY":
                self._check_expressions(found.get("child"), ctes, scope)
                if self.select(found["subquery"]["node"], ctes, scope).kind != "constant":
                    self.refuse("a subquery")

    def _set_operation(self, node: Node, ctes: Ctes, outer: Scope | None) -> Relation:
        children = node.get("children") or [c for c in (node.get("left"), node.get("right")) if c]
        made = [self.select(child, ctes, outer) for child in children]
        if all(m.kind == "constant" for m in made):
            return _CONSTANT
        what = f"`{node['setop_type'].lower().replace('_', ' ')}`"
        if any(m.kind != "rows" for m in made):
            self.refuse(f"{what} with rows of other sources" if any(m.kind == "constant" for m in made) else what)
        merged = _stack(made)
        if not node["setop_all"] and not merged.covers(merged.columns.values(), self.together):
            self.refuse(f"{what} without `all`")
        return merged

    # --- from ----------------------------------------------------------------------------------

    def _from(self, node: Node | None, ctes: Ctes, outer: Scope | None) -> tuple[_Leaf | _Join, Scope]:
        if node is not None and node["type"] == "JOIN":
            return self._join(node, ctes, outer)
        relation = self._relation(node, ctes, outer)
        alias = ""
        if node is not None:
            relation = relation.renamed(node.get("column_name_alias") or ())
            alias = str(node.get("alias") or node.get("table_name") or "").casefold()
        return _Leaf(relation), Scope(((alias, relation),), outer=outer)

    def _relation(self, node: Node | None, ctes: Ctes, outer: Scope | None) -> Relation:
        kind = node["type"] if node is not None else "EMPTY"
        if node is None or kind == "EMPTY":
            return Relation(is_open=False)
        if kind == "BASE_TABLE":
            path = node.get("qualified_name", {}).get("path") or [node["table_name"]]
            name = str(path[-1]).casefold()
            if len(path) == 1 and name in ctes:
                return ctes[name].refer()
            if name == self.primary.casefold():
                known = (*self.key, self.partition_by) if self.partition_by else self.key
                return primary_relation(self.primary, [c for c in known if c])
            return _CONSTANT
        if kind == "SUBQUERY":
            return self.select(node["subquery"]["node"], ctes, outer)
        if kind == "TABLE_FUNCTION":
            self._check_table_function(node, ctes, outer)
        elif kind == "PIVOT":
            return self._pivot(node, ctes, outer)
        elif kind == "EXPRESSION_LIST":
            self._check_expressions(node, ctes, Scope(outer=outer))
        elif self._reads_primary(node, ctes):
            self.refuse("`summarize`" if kind == "SHOW_REF" else f"`{kind.lower()}`")
        return _CONSTANT

    def _check_table_function(self, node: Node, ctes: Ctes, outer: Scope | None) -> None:
        function = node["function"]
        name = str(function.get("function_name", "")).casefold()
        self._check_expressions(function, ctes, Scope(outer=outer))
        if name not in _TABLE_FUNCTIONS and not name.startswith(("read_", "parquet_", "sniff_")):
            raise ValueError(
                f"the query reads from `{name}`, which may look at any table. Name the tables in `from` instead"
            )

    def _pivot(self, node: Node, ctes: Ctes, outer: Scope | None) -> Relation:
        tree, scope = self._from(node["source"], ctes, outer)
        source = self._judge(tree, frozenset())
        if source.kind == "constant":
            return _CONSTANT
        if not node.get("aggregates"):  # `unpivot` makes several rows of each row
            return replace(source.filtered(), columns=self._star({}, scope)[0], open_row=None)
        groups = {name.casefold(): scope.resolve([name]) for name in node.get("groups") or ()}
        if not source.covers(groups.values(), self.together):
            self.refuse("`pivot`")
        return replace(source.filtered(), columns=groups, is_open=True, open_row=None)

    def _join(self, node: Node, ctes: Ctes, outer: Scope | None) -> tuple[_Join, Scope]:
        left, left_scope = self._from(node["left"], ctes, outer)
        right, right_scope = self._from(node["right"], ctes, left_scope)
        using = [str(name).casefold() for name in node.get("using_columns") or ()]
        sides = [(left_scope.resolve([name]), replace(right_scope, outer=None).resolve([name])) for name in using]
        within = Scope(
            (*left_scope.relations, *right_scope.relations), {**left_scope.merged, **right_scope.merged}, outer
        )
        self._check_expressions(node.get("condition"), ctes, within)
        pairs = _pairs(node.get("condition"), within) | {(a, b) for a, b in sides if a is not None and b is not None}
        kind = node["join_type"]
        if kind in ("SEMI", "ANTI"):
            return _Join(left, right, node, pairs), replace(left_scope, outer=outer)
        left_scope = left_scope.with_nulls() if kind in ("RIGHT", *_FULL) else left_scope
        right_scope = right_scope.with_nulls() if kind in ("LEFT", *_FULL) else right_scope
        merged = {**left_scope.merged, **right_scope.merged}
        for name, (ours, theirs) in zip(using, sides, strict=True):
            taken = theirs if kind == "RIGHT" or (kind == "INNER" and (ours is None or ours.nullable)) else ours
            merged[name] = None if kind in _FULL else taken
        scope = Scope((*left_scope.relations, *right_scope.relations), merged, outer)
        return _Join(left, right, node, pairs), scope

    def _judge(self, tree: _Leaf | _Join, where: Pairs) -> Relation:
        """Return what a `from` clause reads, without its columns."""
        if isinstance(tree, _Leaf):
            return tree.relation
        left, right = self._judge(tree.left, where), self._judge(tree.right, where)
        if left.kind == right.kind == "constant":
            return _CONSTANT
        kind, how, pairs = tree.node["join_type"], tree.node["ref_type"], tree.pairs | where
        picks = how == "ASOF" and left.kind == "constant"  # the nearest row of those that are read together
        if picks or how not in _WAYS or kind not in _KINDS:
            self.refuse(f"`{how.lower()} join`")
        passed = {**left.passed, **({} if kind in ("SEMI", "ANTI") else right.passed)}
        both = replace(left if kind == "LEFT" else left.filtered(), passed=passed, columns={})
        if right.kind == "constant":
            self._check_preserved(kind, ("INNER", "LEFT", "SEMI", "ANTI"))
            return both
        if left.kind == "constant":
            self._check_preserved(kind, ("INNER", "RIGHT"))
            return right.filtered()
        if left.kind == right.kind == "rows":
            if not any(are_linked(left.passed, right.passed, pairs, columns) for columns in self.together):
                self.refuse(f"a join of `{self.primary}` with itself")
            return both
        return self._judge_lookup(left, right, kind, pairs, both)

    def _check_preserved(self, kind: str, allowed: tuple[str, ...]) -> None:
        if kind not in allowed:
            self.refuse(f"a {kind.lower()} join, which keeps or counts rows of another source without a match,")

    def _judge_lookup(self, left: Relation, right: Relation, kind: str, pairs: Pairs, both: Relation) -> Relation:
        """Judge a join of rows with distinct values of the same rows: by all columns of the values."""
        rows, values = (left, right) if right.kind == "values" else (right, left)
        allowed = ("INNER", "LEFT", "SEMI", "ANTI") if rows is left else ("INNER", "RIGHT")
        own = [row for row, names in rows.passed.items() if names & values.bases]
        if rows.kind != "rows" or kind not in allowed or not are_linked(own, values.passed, pairs, values.identity):
            self.refuse(f"a join with distinct values of `{self.primary}` by other columns than all of them")
        return replace(both, kind="rows", identity=frozenset(), bases=rows.bases if kind == "LEFT" else frozenset())

    def _reads_primary(self, part: Any, ctes: Ctes) -> bool:
        tables = (str(n["table_name"]).casefold() for n in walk(part) if n.get("type") == "BASE_TABLE")
        return any(t == self.primary.casefold() or (t in ctes and ctes[t].kind != "constant") for t in tables)

    # --- outputs -------------------------------------------------------------------------------

    def _outputs(self, node: Node, scope: Scope) -> tuple[dict[str, Origin | None], bool, int | None, frozenset[str]]:
        """Return the columns of a select: those known, whether there are more, of which row, and the hidden ones."""
        columns: dict[str, Origin | None] = {}
        rows, hidden = set[int | None](), frozenset[str]()
        for item in node["select_list"]:
            if _is_star(item):
                starred, more, row, gone = self._star(item, scope)
            else:
                name = item.get("alias") or (item["column_names"][-1] if item.get("class") == "COLUMN_REF" else "")
                starred = {str(name).casefold(): _origin(item, scope)} if name else {}
                more, row, gone = False, None, frozenset()
            for name, origin in starred.items():  # of two columns of one name the first is taken
                columns.setdefault(name, None if None in rows else origin)
            if more:
                hidden = hidden & gone if rows else gone
                rows.add(row)
        return columns, bool(rows), rows.pop() if len(rows) == 1 else None, hidden

    def _star(self, item: Node, scope: Scope) -> tuple[dict[str, Origin | None], bool, int | None, frozenset[str]]:
        alias = str(item.get("relation_name") or "").casefold()
        chosen = [r for name, r in scope.relations if not alias or name == alias]
        columns: dict[str, Origin | None] = {}
        rows = {None if r.nullable else r.open_row for r in chosen if r.is_open}
        unknown = False
        for relation in chosen:
            for name in relation.columns:
                columns.setdefault(name, None if unknown else relation.find(name)[2])
            unknown = unknown or (relation.is_open and relation.open_row is None)
        gone = frozenset(str(n).casefold() for n in item.get("exclude_list") or ())
        changed = {str(e["key"]).casefold() for e in item.get("replace_list") or ()}
        renamed = bool(item.get("rename_list") or item.get("qualified_exclude_list"))
        if item.get("columns") or renamed:
            return {}, True, None, frozenset()
        kept = {name: None if name in changed else o for name, o in columns.items() if name not in gone}
        kept |= dict.fromkeys(changed)
        hidden = gone | frozenset().union(*(r.hidden for r in chosen)) if len(chosen) == 1 else gone
        return kept, bool(rows) or not chosen, rows.pop() if len(rows) == 1 else None, hidden


def _is_star(item: Node) -> bool:
    return item.get("class") == "STAR"


def _own_parts(part: Any) -> Iterator[Node]:
    """Yield the nodes of expressions, without those inside their subqueries."""
    return walk(part, into=frozenset({"SUBQUERY"}))


def _aggregates(part: Any) -> Iterator[str]:
    for node in _own_parts(part):
        if node.get("class") == "FUNCTION" and function_kind(node) == "aggregate":
            yield str(node["function_name"])


def _calls(part: Any, names: frozenset[str]) -> bool:
    return any(n.get("class") == "FUNCTION" and str(n["function_name"]).casefold() in names for n in _own_parts(part))


def _origin(expression: Node, scope: Scope) -> Origin | None:
    """Return where an expression's value comes from, if that is one row of the primary source alone."""
    if expression.get("class") == "COLUMN_REF":
        return scope.resolve(expression["column_names"])
    used: list[Origin | None] = []
    for node in _own_parts(expression):
        kind = node.get("class")
        if kind == "COLUMN_REF":
            used.append(scope.resolve(node["column_names"]))
        elif kind in ("SUBQUERY", "WINDOW", "STAR", "LAMBDA") or (
            kind == "FUNCTION" and (function_kind(node) or str(node["function_name"]).casefold() in _SPREADS)
        ):
            return None
    found = [o for o in used if o is not None]
    if not found or len(found) < len(used) or len({o.row for o in found}) > 1:
        return None
    columns = frozenset().union(*(o.columns for o in found))
    value = json.dumps(_canonical(expression, scope), sort_keys=True)
    return Origin(found[0].row, value, columns, any(o.nullable for o in found))


def _canonical(part: Any, scope: Scope) -> Any:
    if isinstance(part, dict):
        if part.get("class") == "COLUMN_REF":
            origin = scope.resolve(part["column_names"])
            return {"column": origin.value if origin else None}
        return {name: _canonical(child, scope) for name, child in part.items() if name not in _WITHOUT}
    return [_canonical(child, scope) for child in part] if isinstance(part, list) else part


def _pairs(condition: Node | None, scope: Scope, *, null_safe: bool = True) -> Pairs:
    """Return the values that a condition makes equal, in all the parts that are joined by `and`."""
    if condition is None:
        return frozenset()
    if condition.get("type") == "CONJUNCTION_AND":
        return frozenset().union(*(_pairs(child, scope, null_safe=null_safe) for child in condition["children"]))
    if condition.get("type") not in (_EQUAL if null_safe else _EQUAL[:1]):
        return frozenset()
    left, right = _origin(condition["left"], scope), _origin(condition["right"], scope)
    if left is None or right is None or (condition["type"] != _EQUAL[0] and (left.nullable or right.nullable)):
        return frozenset()
    return frozenset({(left, right)})


def _stack(parts: list[Relation]) -> Relation:
    """Return the rows of several relations below each other. A column keeps its origin if it is the same in all."""
    first = parts[0].refer()
    if any(part.is_open or len(part.columns) != len(first.columns) for part in parts):
        return replace(first, columns={}, is_open=True, open_row=None, bases=frozenset())
    columns: dict[str, Origin | None] = {}
    rows = [{o.row for o in part.columns.values() if o is not None} for part in parts]
    single = all(len(found) == 1 for found in rows)
    for position, (name, origin) in enumerate(first.columns.items()):
        values = {o.value if o is not None else None for o in (list(p.columns.values())[position] for p in parts)}
        columns[name] = origin if single and len(values) == 1 else None
    passed = {row: frozenset[str]() for row in first.passed}
    return replace(first, columns=columns, bases=frozenset(), passed=passed)


def _names(columns: Iterable[str]) -> str:
    return ", ".join(f"`{c}`" for c in columns)
