"""What is known of the relations inside a features query: where their columns come from.

A run reads the primary source in partitions and adds up the results, so a relation must be the sum of what single rows
of the primary source give (`rows`), or depend on other sources alone (`constant`). A relation of `values` has one row
for each distinct value of some columns of the primary source: it may be joined back by all of these columns.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Literal

_numbers = count(1)


@dataclass(frozen=True)
class Origin:
    """A value that is computed from one row of the primary source."""

    row: int
    """Number of the reference to that row: two references may mean two rows."""
    value: str
    """The column's name, or an expression as text that starts with a brace."""
    columns: frozenset[str]
    nullable: bool = False
    """Whether it is NULL where an outer join found no row. Such NULLs of several rows are no group of one row."""

    @property
    def is_column(self) -> bool:
        return self.columns == {self.value}


@dataclass(frozen=True)
class Relation:
    """A relation, its columns, and the rows of the primary source behind each of its rows."""

    kind: Literal["constant", "rows", "values"] = "constant"
    columns: Mapping[str, Origin | None] = field(default_factory=dict)
    """The known columns in their order, by name in lower case."""
    is_open: bool = True
    """Whether it may have further columns."""
    open_row: int | None = None
    """The reference to a primary row whose columns are the further ones. None: they may be of any source."""
    hidden: frozenset[str] = frozenset()
    """Columns that are not among the further ones."""
    bases: frozenset[str] = frozenset()
    """The named relations all of whose rows are still there."""
    passed: Mapping[int, frozenset[str]] = field(default_factory=dict)
    """By reference: the named relations that its row is a row of."""
    identity: frozenset[Origin] = frozenset()
    """The columns that the rows of `values` are one for each of."""
    nullable: bool = False
    """Whether an outer join adds rows of NULLs to it."""

    def find(self, name: str) -> tuple[bool, bool, Origin | None]:
        """Return whether a column is known, whether it may exist, and its origin."""
        known = name in self.columns
        if not known and (not self.is_open or name in self.hidden):
            return False, False, None
        origin = self.columns[name] if known else None if self.open_row is None else column_of(self.open_row, name)
        return known, True, replace(origin, nullable=True) if origin is not None and self.nullable else origin

    def refer(self) -> "Relation":
        """Return the relation as another reference to it, with rows of its own."""
        fresh = {row: next(_numbers) for row in self.passed}

        def renumber(origin: Origin | None) -> Origin | None:
            return None if origin is None else replace(origin, row=fresh[origin.row])

        return replace(
            self,
            columns={name: renumber(origin) for name, origin in self.columns.items()},
            open_row=None if self.open_row is None else fresh[self.open_row],
            passed={fresh[row]: names for row, names in self.passed.items()},
            identity=frozenset(replace(origin, row=fresh[origin.row]) for origin in self.identity),
        )

    def named(self, name: str) -> "Relation":
        """Return the relation under a name that others may refer to. The name is made unique."""
        unique = f"{name} {next(_numbers)}"
        return replace(
            self, bases=self.bases | {unique}, passed={row: names | {unique} for row, names in self.passed.items()}
        )

    def filtered(self) -> "Relation":
        """Return the relation after some of its rows may be gone. Those of `values` go by their values alone."""
        return self if self.kind == "values" else replace(self, bases=frozenset())

    def renamed(self, names: Iterable[str]) -> "Relation":
        """Return the relation with other names for its first columns."""
        wanted = [name.casefold() for name in names]
        if not wanted:
            return self
        if self.is_open:  # the order of its columns is not known
            return replace(self, columns={}, open_row=None, hidden=frozenset())
        old = list(self.columns)
        return replace(self, columns=dict(zip([*wanted, *old[len(wanted) :]], self.columns.values(), strict=False)))

    def covers(self, origins: Iterable[Origin | None], wanted: Iterable[frozenset[str]]) -> bool:
        """Whether rows with equal values of these origins are always read together.

        Args:
            wanted: sets of columns, the key among them. Rows that are equal in all columns of a set are read together.
        """
        found = {origin for origin in origins if origin is not None}
        if self.kind == "values":
            return all(_is_determined(origin, found) for origin in self.identity)
        plain: dict[int, set[str]] = {}
        for origin in found:
            if origin.is_column and not origin.nullable:
                plain.setdefault(origin.row, set()).add(origin.value)
        return any(columns <= names for columns in wanted for names in plain.values())


def _is_determined(origin: Origin, found: set[Origin]) -> bool:
    return origin in found or origin.columns <= {o.value for o in found if o.row == origin.row and o.is_column}


def reduced(origins: Iterable[Origin]) -> frozenset[Origin]:
    """Leave out the expressions that the others determine."""
    every = set(origins)
    return frozenset(o for o in every if o.is_column or not _is_determined(o, every - {o}))


def primary_relation(name: str, columns: Iterable[str]) -> Relation:
    """Return the relation of the primary source itself. `columns` are those that it is known to have."""
    row = next(_numbers)
    known = {column.casefold(): column_of(row, column) for column in columns}
    return Relation("rows", known, open_row=row, bases=frozenset({name}), passed={row: frozenset({name})})


def column_of(row: int, name: str) -> Origin:
    return Origin(row, name.casefold(), frozenset({name.casefold()}))


Pairs = frozenset[tuple[Origin, Origin]]
"""Values that a condition makes equal."""


def are_linked(left: Iterable[int], right: Iterable[int], pairs: Pairs, values: Iterable[Origin | str]) -> bool:
    """Whether a condition ties all these values of one row on the left to those of one row on the right."""
    wanted = [v if isinstance(v, str) else v.value for v in values]
    equal = {
        (a.row, b.row, a.value) for one, other in pairs for a, b in ((one, other), (other, one)) if a.value == b.value
    }
    rights = list(right)
    return any(all((a, b, value) in equal for value in wanted) for a in left for b in rights)


@dataclass(frozen=True)
class Scope:
    """The relations that a select can name, and the scope around it."""

    relations: tuple[tuple[str, Relation], ...] = ()
    merged: Mapping[str, Origin | None] = field(default_factory=dict)
    """The columns of `using (…)`, which belong to both sides of a join."""
    outer: "Scope | None" = None

    @property
    def rows(self) -> set[int]:
        """All references to primary rows that the scope and those around it can name."""
        return {row for _, relation in self.relations for row in relation.passed} | (
            self.outer.rows if self.outer else set()
        )

    def resolve(self, names: list[str]) -> Origin | None:
        """Return where a column comes from. None if that is no row of the primary source, or is not sure."""
        *path, column = (name.casefold() for name in names)
        if path:
            return self._qualified(path, column)
        if column in self.merged:
            return self.merged[column]
        found = [relation.find(column) for _, relation in self.relations]
        known = [origin for is_known, _, origin in found if is_known]
        if known:
            return known[0] if len(known) == 1 else None
        possible = [origin for _, may_be, origin in found if may_be]
        if possible:
            return possible[0] if len(possible) == 1 else None
        return self.outer.resolve([column]) if self.outer else None

    def _qualified(self, path: list[str], column: str) -> Origin | None:
        for alias, relation in self.relations:
            if alias == path[-1]:
                return relation.find(column)[2]
        return self.outer._qualified(path, column) if self.outer else None

    def with_nulls(self) -> "Scope":
        """Return the scope of a join's side that has rows of NULLs where the other side has no match."""
        merged = {name: replace(o, nullable=True) if o is not None else None for name, o in self.merged.items()}
        relations = tuple((alias, replace(relation, nullable=True)) for alias, relation in self.relations)
        return replace(self, relations=relations, merged=merged)
