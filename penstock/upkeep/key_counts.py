"""Count the rows of the ledger with hashes of private values, by the key that the hashes are under."""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.ledger.migrations import has_ledger
from penstock.ledger.served_rows import list_served_tables
from penstock.ledger.tables import delivered_keys, delivery_targets, forgotten, labels, quarantine, releases, runs
from penstock.privacy.secret_keys import KeyRing

HASHED = (
    (quarantine, ("key", "row")),
    (releases, ("key",)),
    (labels, ("key",)),
    (forgotten, ("subject_hash",)),
    (delivered_keys, ("key",)),
)
"""The tables with hashes of private values, and their columns."""
SERVED_HASHED = ("key", "primary_row", "feature_row", "outputs", "other_rows")
"""The columns with hashes of recorded rows. They stay under their key until `serve.retention` removes the rows."""
_ANY = "%hash:%"


@dataclass(frozen=True)
class KeyCount:
    """The rows of one table with hashes. A row with hashes under several keys is counted under the oldest."""

    table: str
    current: int
    former: int
    other: int
    """Under neither key, or from a version before 0.2, whose hashes do not name their key."""

    @property
    def left(self) -> int:
        """Rows that are not under the current key."""
        return self.former + self.other


def count_keys(database: Database, keys: KeyRing, pipelines: Sequence[str] | None = None) -> list[KeyCount]:
    """Count the rows by their key.

    Args:
        pipelines: Those of which rows are counted. None: all.
    """
    if not has_ledger(database):
        return []
    with database.reading() as connection:
        recorded = ((table, SERVED_HASHED) for table in list_served_tables(connection))
        counted = [_count(connection, table, columns, keys, pipelines) for table, columns in (*HASHED, *recorded)]
    return [each for each in counted if each.current or each.left]


def _count(
    connection: sa.Connection, table: sa.Table, columns: Sequence[str], keys: KeyRing, pipelines: Sequence[str] | None
) -> KeyCount:
    mine = [] if pipelines is None else [_is_of(table, pipelines)]
    text: sa.ColumnElement[str] = sa.func.coalesce(table.c[columns[0]], "")
    for name in columns[1:]:
        text = text.concat(sa.func.coalesce(table.c[name], ""))
    plain = text
    for key_id in keys.ids:
        plain = sa.func.replace(plain, f"hash:{key_id}:", "")
    other = plain.like(_ANY)
    former = sa.false() if keys.former is None else text.like(f"%hash:{keys.former.id}:%")
    kind = sa.case((other, "other"), (former, "former"), else_="current")
    query = sa.select(kind, sa.func.count()).where(text.like(_ANY), *mine).group_by(kind)
    found = {str(name): int(rows) for name, rows in connection.execute(query)}
    return KeyCount(table.name, found.get("current", 0), found.get("former", 0), found.get("other", 0))


def _is_of(table: sa.Table, pipelines: Sequence[str]) -> sa.ColumnElement[bool]:
    """Return the condition for the rows of these pipelines. A delivered key belongs to that of its target."""
    if "pipeline" in table.c:
        return table.c.pipeline.in_(pipelines)
    if "request_id" in table.c:
        return table.c.run_id.in_(sa.select(runs.c.run_id).where(runs.c.pipeline.in_(pipelines)))
    same = (delivery_targets.c[name] == table.c[name] for name in ("destination", "target"))
    return sa.exists().where(*same, delivery_targets.c.pipeline.in_(pipelines))
