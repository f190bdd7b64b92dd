"""Collect a pipeline's labels: read what is new at their source, and store each label once.

A collection that is killed has stored some labels and has not moved `seen_until`, so the next one reads them again and
stores the others.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from penstock.database.connections import Connector
from penstock.errors import NoLabels, NothingScored
from penstock.interval import DataInterval
from penstock.labels.read_labels import LostRows, count_lost, read_labels
from penstock.labels.stored import append_labels
from penstock.ledger.label_sources import move_seen_until, open_label_source
from penstock.ledger.migrations import has_ledger
from penstock.privacy.masking import MaskingPolicy
from penstock.spec.labels import Labels
from penstock.spec.pipeline import Pipeline

EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Collected:
    """What one collection did."""

    pipeline: str
    read_from: datetime
    """Labels that were seen since then were read."""
    read: int
    new: int
    without_key: int
    lost: LostRows
    seen_until: datetime | None
    """The newest `seen_at` of all collections."""


def collect_labels(
    pipeline: Pipeline,
    connect: Connector,
    masking: MaskingPolicy,
    now: datetime,
    statement_seconds: int,
    *,
    text: bool = False,
) -> Collected:
    """Read the labels that were seen since the last collection, and store those that are new.

    A label that is seen later than `now` is left for a later collection.

    Args:
        statement_seconds: How long the value of one part may take.
        text: A label may be text: the name of a class.

    Raises:
        NoLabels: the pipeline declares none.
        NothingScored: there is no ledger.
    """
    declared = labels_of(pipeline)
    database = connect(pipeline.destination.connection)
    if not has_ledger(database):
        raise NothingScored(pipeline.name)
    known = open_label_source(database, pipeline.name, fingerprint_source(declared))
    begin = EARLIEST if known.seen_until is None else max(EARLIEST, known.seen_until - declared.lookback)
    if known.pruned_before is not None:
        begin = max(begin, known.pruned_before)
    span = DataInterval(begin, max(now, begin + timedelta(microseconds=1)))
    read = new = without_key = 0
    until = known.seen_until
    for part in read_labels(pipeline, declared, connect, masking, span, statement_seconds, text=text):
        new += append_labels(database, pipeline.name, part.labels, now, part.current)
        read, without_key = read + len(part.labels), without_key + part.without_key
        until = max([label.seen_at for label in part.labels] + ([until] if until else []), default=None)
    if until is not None and until != known.seen_until:
        move_seen_until(database, pipeline.name, until)
    lost = count_lost(pipeline, declared, connect, span)
    return Collected(pipeline.name, begin, read, new, without_key, lost, until)


def labels_of(pipeline: Pipeline) -> Labels:
    """Return what the pipeline declares.

    Raises:
        NoLabels: it declares no labels.
    """
    if pipeline.labels is None:
        raise NoLabels(pipeline.name)
    return pipeline.labels


def fingerprint_source(declared: Labels) -> str:
    """Hash what is read and how. A change reads all labels again."""
    read = declared.model_dump(mode="json", include={"source", "value", "seen_at"}, by_alias=True)
    return hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()[:16]
