"""Deliver to one target what it lacks of the live rows."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pyarrow as pa

from penstock.database.bulk import bulk_transaction
from penstock.database.connections import Database
from penstock.delivery.rows import digest, hide_key, read_delivered, write_json, write_rows
from penstock.delivery.target import BatchTarget, IntervalTarget, Reply, Target
from penstock.errors import DeliveryTakenOver, PlaceRefused, TerminalError
from penstock.ledger.deliveries import (
    acknowledge,
    begin_plan,
    end_outdated,
    finish,
    finish_plan,
    mark_sent,
    record_reply,
)
from penstock.ledger.delivery_targets import (
    clear_erased,
    read_erased,
    read_not_before,
    record_failure,
    record_success,
    release_lease,
    renew_lease,
    take_lease,
)
from penstock.ledger.outbox import (
    Batch,
    Change,
    Delivery,
    Outbox,
    count_rows,
    find_changes,
    find_open,
    find_tried,
    list_batches,
    read_rows,
)
from penstock.ledger.reader import find_run
from penstock.ledger.tables import delivery_rows
from penstock.privacy.masking import MaskingPolicy
from penstock.run_types import interval_label
from penstock.spec.deliver import AnyTarget
from penstock.spec.pipeline import Pipeline
from penstock.wording import plural

ATTEMPTS = 4
"""How often a batch is sent before its delivery fails."""
FIRST_PAUSE = 1.0
"""Seconds before the second attempt. Each later pause is twice as long."""
LONGEST_PAUSE = 30.0
"""A target that asks to wait longer is left until the next run."""
BREAK_AFTER = 3
"""Deliveries that fail one after another, before the rest waits for the next run."""
STAGED_ROWS = 10_000
"""Rows that are written as JSON and put into the outbox at once."""
COOL_DOWN_SECONDS = 300.0
"""How long runs leave a target alone that took nothing."""
LONGEST_WAIT = 86_400.0
"""Most seconds that a target is left alone because it asked for it."""
ROUNDS = 5
"""How often a call looks for intervals that moved while it delivered others."""
LEASE_SECONDS = 120.0
"""How long a process keeps a target beyond the time that a batch may take."""


@dataclass(frozen=True)
class Delivered:
    """What one call has delivered to one target."""

    target: str
    intervals: int
    upserts: int
    deletes: int
    missing: int = 0
    """Of the rows, those whose keys the target's table does not have."""
    failures: tuple[str, ...] = ()
    """One for each interval that was not delivered."""
    waiting: int = 0
    """Intervals that were not tried, because others before them failed."""

    @property
    def is_complete(self) -> bool:
        return not self.failures and not self.waiting

    def add(self, upserts: int, deletes: int, missing: int) -> "Delivered":
        """Return the sum with another interval."""
        return replace(
            self,
            intervals=self.intervals + 1,
            upserts=self.upserts + upserts,
            deletes=self.deletes + deletes,
            missing=self.missing + missing,
        )

    def describe(self) -> str:
        """Say what the target got, and what it did not."""
        text = f"`{self.target}`: {plural(self.intervals, 'interval')} delivered"
        text += f", {plural(self.upserts, 'row')} and {plural(self.deletes, 'removal')}" if self.intervals else ""
        text += f"; {plural(self.missing, 'key')} not in its table" if self.missing else ""
        text += f"; {'; '.join(self.failures)}" if self.failures else ""
        return text + (f"; {plural(self.waiting, 'interval')} left for the next run" if self.waiting else "")


@dataclass(frozen=True)
class Courier:
    """Delivers to one target of a pipeline."""

    database: Database
    pipeline: Pipeline
    outbox: Outbox
    spec: AnyTarget
    target: Target
    masking: MaskingPolicy
    statement_seconds: int
    pause: Callable[[float], None] = time.sleep

    @property
    def definition(self) -> str:
        """What the bytes of a batch depend on, beside the rows. An open delivery with another one is planned anew."""
        said = self.spec.model_dump(mode="json", include=set(self.spec.DEFINING))
        return digest(write_json({"pipeline": self.pipeline.name, **said}))

    def deliver(self, only: Change | None = None, *, again: bool = False) -> Delivered:
        """Deliver what the target lacks, the oldest interval first. Those that have failed before come last.

        Args:
            only: Deliver this interval and no other, although the target asked to wait.
            again: Deliver all rows of `only`, also those that the target has.

        Raises:
            TargetBusy: another process delivers to the target.
            DeliveryTakenOver: another process has taken the target.
        """
        token = take_lease(self.database, self.outbox, self._lease_seconds)
        try:
            return self._deliver(token, only, again)
        finally:
            self.target.close()
            release_lease(self.database, self.outbox, token)

    @property
    def _lease_seconds(self) -> float:
        return LEASE_SECONDS + self.target.longest_seconds

    def _deliver(self, token: str, only: Change | None, again: bool) -> Delivered:
        end_outdated(self.database, self.outbox, token)
        until = read_not_before(self.database, self.outbox)
        if only is None and until is not None:
            waits = f"it is left alone until {_clock(until)}"
            waiting = len(self._find_changes(None))
            return Delivered(self.outbox.target, 0, 0, 0, failures=(waits,), waiting=waiting)
        total = Delivered(self.outbox.target, 0, 0, 0)
        for _ in range(ROUNDS):  # what moved meanwhile is delivered too, because its own process found the target busy
            changes = [only] if only and again else self._find_changes(only)
            total = self._deliver_all(token, changes, total, again)
            if again or not changes or total.failures:
                break
        if not self._find_changes(None) and not total.failures:
            total = self._remove_erased(token, total)
            if not total.failures:
                record_success(self.database, self.outbox)
        return total

    def _remove_erased(self, token: str, total: Delivered) -> Delivered:
        """Remove files that may have an erased row, now that no pointer names them."""
        erased_at = read_erased(self.database, self.outbox)
        if erased_at is None or not isinstance(self.target, IntervalTarget):
            return total
        renew_lease(self.database, self.outbox, token, self._lease_seconds)
        try:
            self.target.remove_unread(None)
        except PlaceRefused as error:
            text = f"files that may have an erased row are still there: {error.reason}"
            record_failure(self.database, self.outbox, text)
            return replace(total, failures=(*total.failures, text))
        clear_erased(self.database, self.outbox, token, erased_at)
        return total

    def _find_changes(self, only: Change | None) -> list[Change]:
        found = find_changes(self.database, self.outbox, None if only else self.spec.start)
        return [change for change in found if only is None or change.interval_key == only.interval_key]

    def _failed_last(self, changes: Sequence[Change]) -> list[Change]:
        """Put what has failed before behind the rest, so that it makes nothing else late: first what waits longest."""
        tried = find_tried(self.database, self.outbox)
        new = [change for change in changes if change.interval_key not in tried]
        failed = [change for change in changes if change.interval_key in tried]
        return new + sorted(failed, key=lambda change: tried[change.interval_key])

    def _deliver_all(self, token: str, changes: Sequence[Change], total: Delivered, again: bool) -> Delivered:
        last: Reply | None = None
        in_a_row = 0
        for number, change in enumerate(self._failed_last(changes)):
            try:
                delivery, refused = self._deliver_change(token, change, again)
            except DeliveryTakenOver:
                raise
            except TerminalError as error:
                delivery, refused = None, Reply(False, str(error))
            if refused is not None:
                last, in_a_row = refused, in_a_row + 1
                total = self._fail(change, refused, total)
                if in_a_row >= BREAK_AFTER or refused.wait is not None:
                    total = replace(total, waiting=len(changes) - number - 1)
                    break
            elif delivery is not None:
                in_a_row = 0
                total = total.add(*count_rows(self.database, delivery))
        if last is not None and last.again and last.wait is None and not total.intervals:  # it took nothing
            record_failure(self.database, self.outbox, total.failures[-1], COOL_DOWN_SECONDS)
        return total

    def _fail(self, change: Change, refused: Reply, total: Delivered) -> Delivered:
        """Record a failure. A target that asks for it is left alone for a while."""
        total = replace(total, failures=(*total.failures, f"{interval_label(change.interval)}: {refused.text}"))
        record_failure(self.database, self.outbox, total.failures[-1], min(refused.wait or 0.0, LONGEST_WAIT))
        return total

    def _deliver_change(self, token: str, change: Change, again: bool) -> tuple[Delivery | None, Reply | None]:
        """Deliver one interval. Return the delivery when all of it is acknowledged, or why it is not.

        Neither of them: something else is live by now.
        """
        delivery = None if again else find_open(self.database, self.outbox, change)
        if delivery is None or delivery.change != change or delivery.definition != self.definition:
            opened = self._repeat(self.target.open)
            if opened is None or not opened.accepted:
                return None, opened
            delivery = self._plan(token, change, again)
        for batch in list_batches(self.database, delivery) if delivery else ():
            if batch.state == "acknowledged":
                continue
            reply = self._send(token, batch)
            if reply is None or not reply.accepted:
                return None, reply
        if delivery is None or not finish(self.database, self.outbox, token, delivery):
            return None, None
        return delivery, None

    def _plan(self, token: str, change: Change, again: bool) -> Delivery | None:
        """Put the rows into the outbox, one partition at a time, and reduce them to the difference."""
        delivery = begin_plan(self.database, self.outbox, token, change, self.definition)
        for rows in self._read(token, change):
            self.target.check_columns(rows.schema)
            for first in range(0, rows.num_rows, STAGED_ROWS):
                renew_lease(self.database, self.outbox, token, self._lease_seconds)
                self._stage(delivery, rows.slice(first, STAGED_ROWS))
        return finish_plan(self.database, self.outbox, token, delivery, self.spec.batch_rows, again=again)

    def _read(self, token: str, change: Change) -> Iterator[pa.Table]:
        """Yield the live rows that the target gets, one partition at a time, and renew the lease."""
        if change.run_id is None:
            return
        run = find_run(self.database, change.run_id)
        for rows in read_delivered(self.database, run, self.pipeline, self.spec, self.statement_seconds):
            renew_lease(self.database, self.outbox, token, self._lease_seconds)
            yield rows

    def _stage(self, delivery: Delivery, rows: pa.Table) -> None:
        """Put rows into the outbox. A target that takes an interval as a whole gets no values from there."""
        keys, values = write_rows(rows, self.pipeline.key, self.masking, self.outbox.target)
        sent = [None] * len(values) if self.spec.batch_rows is None else values
        columns: dict[str, Any] = {
            "key": keys,
            "digest": list(map(digest, values)),
            "row_values": pa.array(sent, pa.string()),
        }
        staged = pa.table({"delivery_id": [delivery.delivery_id] * len(keys), **columns})
        with bulk_transaction(self.database) as transaction:
            transaction.append(delivery_rows, staged)

    def _send(self, token: str, batch: Batch) -> Reply | None:
        """Send one batch, a few times if need be. None: something else is live by now."""

        def send() -> Reply | None:
            if not mark_sent(self.database, self.outbox, token, batch, self._lease_seconds):
                return None
            reply = self._send_once(token, batch)
            if reply.accepted:
                acknowledge(self.database, batch, self.outbox, reply.text, reply.missing)
            else:
                record_reply(self.database, batch, reply.text)
            return reply

        return self._repeat(send)

    def _repeat(self, ask: Callable[[], Reply | None]) -> Reply | None:
        """Ask a target for something, a few times if need be. Return the last reply."""
        reply = None
        for attempt in range(ATTEMPTS):
            reply = ask()
            if reply is None or reply.accepted:
                return reply
            pause = reply.wait if reply.wait is not None else FIRST_PAUSE * 2**attempt * random.uniform(1, 1.5)
            if not reply.again or pause > LONGEST_PAUSE:
                return reply
            if attempt < ATTEMPTS - 1:
                self.pause(pause)
        return None if reply is None else replace(reply, wait=None)

    def _send_once(self, token: str, batch: Batch) -> Reply:
        target = self.target
        if isinstance(target, IntervalTarget):
            read = self._read(token, batch.delivery.change)
            hidden = (hide_key(rows, self.pipeline.key, self.masking) for rows in read)
            # Sorted after that, because the order of the plain values tells something about them.
            by_key = (rows.sort_by([(column, "ascending") for column in self.pipeline.key]) for rows in hidden)
            return target.replace(self.outbox, batch.delivery, by_key)
        assert isinstance(target, BatchTarget)
        return target.send(self.outbox, batch, read_rows(self.database, batch))


def _clock(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
