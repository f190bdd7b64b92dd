"""Select refused rows and release them."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from penstock.database.connections import Database
from penstock.errors import SettingsError, nearest
from penstock.interval import DataInterval
from penstock.ledger.migrations import has_ledger
from penstock.ledger.quarantine import QuarantinedRow, pages_of, standing_runs
from penstock.ledger.releases import release_rows, waivable
from penstock.privacy.masking import NO_MASKING, MaskingPolicy
from penstock.privacy.row_key import RowKey
from penstock.spec.pipeline import Pipeline
from penstock.upkeep.stored_rows import find_texts


@dataclass(frozen=True)
class Choice:
    """Selects refused rows by failed expectation and by key. Without either, all rows."""

    failed: tuple[str, ...] = ()
    """Expectations. A row matches if it failed these and no others."""
    keys: tuple[RowKey, ...] = ()
    masking: MaskingPolicy = NO_MASKING

    def takes(self, row: QuarantinedRow) -> bool:
        by_reason = not self.failed or set(row.reasons) <= set(self.failed)
        if not by_reason or not self.keys:
            return by_reason
        key = json.loads(row.key)
        return any(is_mine(key) for is_mine in self._matchers)

    @cached_property
    def _matchers(self) -> list[Callable[[Mapping[str, Any]], bool]]:
        return [row_key.matcher(self.masking) for row_key in self.keys]


def choose_keys(
    database: Database, pipeline: Pipeline, failed: tuple[str, ...], keys: Iterable[RowKey], masking: MaskingPolicy
) -> Choice:
    """Return the choice of some keys of a pipeline."""
    if not has_ledger(database):
        return Choice(failed, tuple(keys), masking)
    with database.reading() as connection:
        return Choice(failed, tuple(find_texts(connection, pipeline, each) for each in keys), masking)


@dataclass(frozen=True)
class Selection:
    """The rows of one run that a choice matches."""

    run_id: str
    rows: tuple[QuarantinedRow, ...]

    @property
    def held(self) -> tuple[QuarantinedRow, ...]:
        """The rows that can be released."""
        return tuple(row for row in self.rows if row.state == "held" and not row.is_line)

    @property
    def lines(self) -> tuple[QuarantinedRow, ...]:
        """Lines of files that no row can be read from."""
        return tuple(row for row in self.rows if row.state == "held" and row.is_line)

    @property
    def stubborn(self) -> int:
        """Rows that a release cannot let through: the model cannot take them, or they have no key."""
        return sum(set(waivable(row)) != set(row.reasons) for row in self.held)


@dataclass(frozen=True)
class Selected:
    """The rows that a choice matches in several runs."""

    runs: tuple[Selection, ...]
    left: int = 0
    """Held rows that failed a chosen expectation and also others."""

    @property
    def held(self) -> int:
        return sum(len(each.held) for each in self.runs)

    @property
    def digest(self) -> str:
        """Identifies the held rows as they were judged, so that a person releases those that were shown."""
        held = sorted((each.run_id, row.digest) for each in self.runs for row in each.held)
        return hashlib.sha256(json.dumps(held).encode()).hexdigest()

    @property
    def stubborn(self) -> int:
        return sum(each.stubborn for each in self.runs)

    @property
    def lines(self) -> tuple[QuarantinedRow, ...]:
        return tuple(line for each in self.runs for line in each.lines)

    @property
    def lines_span(self) -> DataInterval | None:
        """The time from the first to the last interval of the lines. None for a pipeline without intervals."""
        intervals = [line.interval for line in self.lines if line.interval is not None]
        if not intervals:
            return None
        return DataInterval(min(i.start for i in intervals), max(i.end for i in intervals))


def select_rows(database: Database, choice: Choice, pipeline: str | None = None, run_id: str | None = None) -> Selected:
    """Find the matching rows of one run, or of the newest run of each of the pipeline's intervals.

    Raises:
        SettingsError: no row failed an expectation that the choice names.
    """
    runs = [run_id] if run_id is not None else standing_runs(database, pipeline)
    found, left, reasons = [], 0, set[str]()
    for run in runs:
        rows: list[QuarantinedRow] = []
        for row in _rows_of(database, run):
            reasons.update(row.reasons)
            if choice.takes(row):
                rows.append(row)
            elif row.state == "held" and set(choice.failed) & set(row.reasons):
                left += 1
        if rows:
            found.append(Selection(run, tuple(rows)))
    _require_known(choice.failed, reasons)
    return Selected(tuple(found), left)


def release_selected(database: Database, selected: Selected, by: str, note: str) -> int:
    """Release the rows that are still held, one interval after the other. Return their number."""
    return sum(release_rows(database, each.run_id, each.held, by, note) for each in selected.runs if each.held)


def _rows_of(database: Database, run_id: str) -> Iterator[QuarantinedRow]:
    for page in pages_of(database, run_id):
        yield from page


def _require_known(failed: Iterable[str], reasons: set[str]) -> None:
    for label in failed:
        if label not in reasons:
            raise SettingsError(
                f"no refused row failed `{label}`.{nearest(label, sorted(reasons))}".rstrip("."),
                "Copy the label from the column `reason` of `penstock quarantine list`.",
            )
