"""Keep rows of files in quarantine that no step reads: those that cannot be read, and those outside their interval."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace

from penstock.database.connections import Connector
from penstock.errors import SourceError
from penstock.ledger.quarantine import digest_row
from penstock.privacy.masking import HIDDEN, MaskingPolicy
from penstock.run.load import keep_refusals
from penstock.run.validate import Quarantiner, to_json
from penstock.run_types import (
    ExtractedRows,
    Features,
    Misfit,
    Partition,
    Receipt,
    Refusal,
    RefusedRow,
    RefusedRows,
    ScoringRun,
    Validation,
)
from penstock.sources import open_source
from penstock.sources.files_reader import FilesReader
from penstock.spec.expectation_types import Outcome
from penstock.spec.pipeline import Pipeline
from penstock.spec.sources import FilesSource
from penstock.wording import plural

MALFORMED, STRAY, WITHOUT_TEXT = "max_malformed", "stray", "without text"
_MOST_KEPT = 1_000


def add_rows_of_files(
    features: Features, pipeline: Pipeline, masking: MaskingPolicy, partition: Partition, extracted: ExtractedRows
) -> Features:
    """Add the refusals of rows that cannot be read and of stray rows to those of a partition."""
    refusals: list[Refusal] = []
    found: list[Validation] = []
    for name, refused in extracted.refused.items():
        refusals += [_refuse(name, row, masking) for row in refused.rows]
        if refused.rows:
            found.append(_judge_malformed(name, refused, partition))
        if refused.without_text:
            found.append(_note_without_text(name, refused, partition))
    refusals += _refuse_stray(pipeline, masking, extracted)
    found += _judge_stray(pipeline, partition)
    own = sum(refusal.source == pipeline.primary for refusal in refusals)
    return replace(
        features,
        extracted=features.extracted + own,
        refusals=(*features.refusals, *refusals),
        validations=(*features.validations, *found),
    )


def count_unread(primary: str, receipts: Iterable[Receipt]) -> int:
    """Count the extracted rows of the primary source that no expectation has judged."""
    kinds = (MALFORMED, f"{STRAY}: quarantine")
    found = (v for receipt in receipts for v in receipt.validations)
    return sum(v.unexpected for v in found if v.stage == primary and v.expectation in kinds)


def keep_malformed(run: ScoringRun, connect: Connector, masking: MaskingPolicy) -> None:
    """Keep the rows in quarantine for which a run halts before it has read a partition, at most the first thousand."""
    refusals: list[Refusal] = []
    for name, source in run.pipeline.sources.items():
        reader = open_source(run.pipeline, name, connect) if isinstance(source, FilesSource) else None
        if not isinstance(reader, FilesReader):
            continue
        with suppress(SourceError):  # the run halts for that reason
            refused = reader.read_refused(run.interval)
            if len(refused.rows) > refused.limit * refused.of:
                refusals += [_refuse(name, row, masking) for row in refused.rows[:_MOST_KEPT]]
    if refusals:
        keep_refusals(connect(run.pipeline.destination.connection), run, refusals)


def _refuse(name: str, row: RefusedRow, masking: MaskingPolicy) -> Refusal:
    place = {"file": row.file, "line": row.line} if row.line else _document(row.file, masking)
    key = to_json(place)
    kept = to_json(place if row.text is None else place | {"text": row.text})
    return Refusal(name, name, key, (masking.mask_reason(row.reason),), kept, digest_row(name, name, key, kept))


def _document(file: str, masking: MaskingPolicy) -> dict[str, object]:
    """Return the place of a document. Its path may be private."""
    return {"file": masking.mask({"path": file}).get("path", HIDDEN)}


def _judge_malformed(name: str, refused: RefusedRows, partition: Partition) -> Validation:
    bad = len(refused.rows)
    outcome: Outcome = "quarantined" if bad else "passed"
    observed = f"{bad / refused.of:.2%} cannot be read, the limit is {refused.limit:.2%}" if bad else ""
    return Validation(name, MALFORMED, "warning", refused.of, bad, outcome, observed, partition.index)


def _note_without_text(name: str, refused: RefusedRows, partition: Partition) -> Validation:
    are = "document has" if refused.without_text == 1 else "documents have"
    observed = f"{refused.without_text:,} {are} pages and no text, as scans; `text` is NULL"
    return Validation(name, WITHOUT_TEXT, "info", refused.of, refused.without_text, "noted", observed, partition.index)


def _refuse_stray(pipeline: Pipeline, masking: MaskingPolicy, extracted: ExtractedRows) -> tuple[Refusal, ...]:
    if extracted.stray is None or pipeline.interval is None:
        return ()
    reason = Misfit(pipeline.interval.column, "is outside the interval that the file is named by")
    # A release is of no use: another interval would have to read the row.
    quarantiner = Quarantiner(pipeline, masking, {})
    refused = dict.fromkeys(range(extracted.stray.num_rows), (reason,))
    return quarantiner.refuse(pipeline.primary, extracted.stray, refused)[1]


def _judge_stray(pipeline: Pipeline, partition: Partition) -> Iterator[Validation]:
    source = pipeline.primary_source
    if not partition.stray or not isinstance(source, FilesSource):
        return
    are = "is" if partition.stray == 1 else "are"
    observed = f"{plural(partition.stray, 'row')} of the files {are} outside the interval that the files are named by"
    outcome: Outcome = "quarantined" if source.stray == "quarantine" else "noted"
    yield Validation(
        pipeline.primary,
        f"{STRAY}: {source.stray}",
        "info",
        partition.rows,
        partition.stray,
        outcome,
        observed,
        partition.index,
    )
