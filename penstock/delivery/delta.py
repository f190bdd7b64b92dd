"""Put the live rows of each interval into a Delta table, one commit a delivery."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from penstock.database.types import TIMESTAMP
from penstock.delivery.folders import Folder
from penstock.delivery.place_errors import other_delivery, other_ledger, reach, refused, translated_place_errors
from penstock.delivery.target import IntervalTarget, Reply
from penstock.errors import PenstockError, PlaceRefused, PointerRefused
from penstock.ledger.outbox import Change, Delivery, Outbox
from penstock.object_stores import StoreAccess, is_remote
from penstock.sources.lake.stores import delta_options
from penstock.spec.column_names import DELTA_INTERVAL

if TYPE_CHECKING:
    from deltalake import DeltaTable

LONGEST_SECONDS = 300.0
"""How long one partition may take, and a commit."""
RETENTION_HOURS = 168
"""How long the files of a replaced version stay, for readers that have begun to read it."""

_OWN_FILE = re.compile(r"part-[0-9]{5}-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}-c[0-9]{3}(\.[a-z0-9]+)?\.parquet")
"""Names of the files of rows. The library would remove whatever else is in the folder of the table."""
_LOG = "_delta_log/"
_LEDGER, _DELIVERY = "penstock.ledger", "penstock.delivery"
"""What a table says about its ledger, and a commit about its delivery."""


@dataclass(frozen=True)
class DeltaTarget(IntervalTarget):
    """A Delta table. The commit that replaces the rows of an interval has the number of the delivery.

    So a delivery is committed once, and none is committed after a newer one.
    """

    name: str
    path: str
    folder: Folder
    access: StoreAccess

    @property
    def longest_seconds(self) -> float:
        return LONGEST_SECONDS

    def open(self) -> Reply:
        return reach(self.name, self.folder)

    def close(self) -> None:
        """Nothing is open between two intervals."""

    def replace(self, outbox: Outbox, delivery: Delivery, rows: Iterator[pa.Table]) -> Reply:
        from deltalake.exceptions import DeltaError

        source = _Source(rows)
        try:
            with translated_place_errors(self.name):
                return self._replace(outbox, delivery, source)
        except PlaceRefused as error:
            source.raise_error()
            return refused(error)
        except PointerRefused as error:
            return Reply(False, str(error))
        except DeltaError as error:
            source.raise_error()
            return _read_refusal(error)

    def find_unread(self, before: datetime | None) -> list[str]:
        """Return the files of rows that no version of the last week has: also those of commits that were not made."""
        from deltalake.exceptions import DeltaError

        with translated_place_errors(self.name):
            try:
                table = None if before is None else self._open()
                found = [] if table is None else table.vacuum(RETENTION_HOURS, dry_run=True, full=True)
            except DeltaError as error:
                raise PlaceRefused(self.name, _read_refusal(error).text, passing=True) from None
        return [key for key in found if _OWN_FILE.fullmatch(key)]

    def remove_unread(self, before: datetime | None) -> None:
        """Remove files of versions that are older than a week. Those of younger ones stay, also after an erasure."""
        found = self.find_unread(before)
        with translated_place_errors(self.name):
            for key in found:
                self.folder.remove(key)

    def _replace(self, outbox: Outbox, delivery: Delivery, source: "_Source") -> Reply:
        from deltalake import CommitProperties, Transaction, write_deltalake

        change, number = delivery.change, f"penstock/{outbox.pipeline}/{self.name}/{delivery.change.interval_key}"
        table = self._open()
        if table is not None and self._has(table, outbox, delivery, number):
            return Reply(True, "written before")
        first = source.first()
        if table is None:
            if first is None:
                return Reply(True, "no row to write")
            table = self._create(outbox, _with_run(first, change).schema)
        schema = _with_run(first, change).schema if first is not None else _arrow_schema(table)
        batches = (batch for rows in source.all() for batch in _with_run(rows, change).to_batches())
        write_deltalake(
            table,
            pa.RecordBatchReader.from_batches(schema, batches),
            mode="overwrite",
            schema_mode="merge",
            predicate=f"{DELTA_INTERVAL} = '{change.interval_key}'",
            # A commit after any other one is tried anew from the begin, which looks at the number again.
            commit_properties=CommitProperties(
                app_transactions=[Transaction(number, delivery.sequence)],
                custom_metadata={_DELIVERY: delivery.delivery_id},
                max_commit_retries=0,
            ),
        )
        return Reply(True, f"version {table.version()}")

    def _has(self, table: "DeltaTable", outbox: Outbox, delivery: Delivery, number: str) -> bool:
        """Whether the table has this delivery.

        Raises:
            PointerRefused: it has a newer one, or is another target's, or has one that the ledger does not know.
        """
        described = table.metadata()
        if (ledger := described.configuration.get(_LEDGER, "")) != outbox.ledger:
            reason = other_ledger(ledger) if ledger else "the table was not made by this target"
            raise PointerRefused(self.name, self.path, reason)
        if described.name != outbox.destination and described.description != _describe(outbox):
            raise PointerRefused(self.name, self.path, "the table was not made by this target")
        found = table.transaction_version(number)
        if found is not None and found > delivery.sequence:
            reason = f"it has the delivery {found}, which is newer than {delivery.sequence}"
            raise PointerRefused(self.name, self.path, reason)
        if found == delivery.sequence and not any(
            commit.get(_DELIVERY) == delivery.delivery_id for commit in table.history()
        ):
            raise PointerRefused(self.name, self.path, other_delivery(found))
        return found == delivery.sequence

    def _open(self) -> "DeltaTable | None":
        from deltalake import DeltaTable

        there = DeltaTable.is_deltatable(self._location, self._options)
        return DeltaTable(self._location, storage_options=self._options) if there else None

    def _create(self, outbox: Outbox, schema: pa.Schema) -> "DeltaTable":
        """Make the table.

        Raises:
            PlaceRefused: its folder has files.
        """
        from deltalake import DeltaTable

        theirs = next((file.key for file in self.folder.list() if not file.key.startswith(_LOG)), None)
        if theirs is not None:
            reason = f"its folder is not empty: it has `{theirs}`"
            raise PlaceRefused(self.name, reason, passing=False)
        about: dict[str, Any] = {"name": outbox.destination, "description": _describe(outbox)}
        about |= {"configuration": {_LEDGER: outbox.ledger}, "raise_if_key_not_exists": False}
        return DeltaTable.create(self._location, schema, mode="error", storage_options=self._options, **about)

    @property
    def _location(self) -> str:
        return self.path if is_remote(self.path) else str(Path(self.path).absolute())

    @property
    def _options(self) -> dict[str, str]:
        if not is_remote(self.path):
            return {}
        given = dict(self.access.options)
        plain = {"allow_http": "true"} if "http://" in given.get("endpoint", "") else delta_options(self.path)
        return {**plain, "conditional_put": "etag", **given}


class _Source:
    """Rows that a library reads. It would hide an error of reading them, so that is kept here."""

    def __init__(self, rows: Iterator[pa.Table]) -> None:
        self._rows = rows
        self._first: pa.Table | None = None
        self._error: PenstockError | None = None

    def first(self) -> pa.Table | None:
        """Return the first rows. None: there are none."""
        self._first = next((rows for rows in self._rows if rows.num_rows), None)
        return self._first

    def all(self) -> Iterator[pa.Table]:
        """Yield all rows, after `first`."""
        if self._first is None:
            return
        yield self._first
        try:
            yield from self._rows
        except PenstockError as error:
            self._error = error
            raise

    def raise_error(self) -> None:
        """Raise what broke the reading, if something did."""
        if self._error is not None:
            raise self._error


def _with_run(rows: pa.Table, change: Change) -> pa.Table:
    """Add the columns by which readers and later deliveries find the rows."""
    start, end = (change.interval.start, change.interval.end) if change.interval else (None, None)
    about: tuple[tuple[str, Any, pa.DataType], ...] = (
        ("interval_start", start, TIMESTAMP),
        ("interval_end", end, TIMESTAMP),
        ("run_id", change.run_id, pa.string()),
        (DELTA_INTERVAL, change.interval_key, pa.string()),
    )
    for column, value, kind in about:
        same: Any = pa.scalar(value, kind)
        rows = rows.append_column(column, pa.repeat(same, rows.num_rows))
    return rows


def _arrow_schema(table: "DeltaTable") -> pa.Schema:
    return pa.schema(table.schema().to_arrow())  # type: ignore[arg-type] # it has Arrow's C interface


def _describe(outbox: Outbox) -> str:
    return f"The live rows of `{outbox.pipeline}`, written by Penstock for `{outbox.target}`."


def _read_refusal(error: Exception) -> Reply:
    """Say why the library made no commit. Its own text may have values of rows or a secret, so it is not shown."""
    from deltalake.exceptions import CommitFailedError, SchemaMismatchError

    if isinstance(error, CommitFailedError):
        return Reply(False, "another process changed the table meanwhile", again=True)
    if isinstance(error, SchemaMismatchError):
        return Reply(False, "the columns do not fit the table; deliver to another path, or change the table")
    return Reply(False, "the table cannot be read or written", again=True)
