"""End the runs of challengers once their champion is published. What becomes of one of them touches no other run."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from penstock.database.connections import Database
from penstock.ledger import writer
from penstock.ledger.challengers import publish_challenger
from penstock.ledger.run_lease import describe_error
from penstock.run.doubled_keys import find_doubled_keys
from penstock.run.load import count_rows
from penstock.run_types import ChallengerResult, ScoringRun

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ChallengerEnd:
    """How a challenger's run ended."""

    run_id: str
    model: str
    state: str
    """`published`, `halted` or `failed`."""
    error: str = ""


def finish_challenger(
    database: Database,
    challenger: ScoringRun,
    results: Sequence[ChallengerResult],
    seal: Callable[[ScoringRun], None],
) -> ChallengerEnd:
    """Judge a challenger's run and publish it, or record why it ends. Raises nothing.

    Args:
        results: What it made of each partition.
        seal: Stores the root of a run whose rows are sealed.
    """
    totals: writer.Totals | None = None
    try:
        state, error, totals = _judge(database, challenger, results, seal)
        if state != "published":
            writer.end_run(database, challenger, state, error, totals)
    except Exception as failure:  # noqa: BLE001 # the champion is published, whatever becomes of its challenger
        state, error = "failed", describe_error(challenger.pipeline, failure)
        _record_failure(database, challenger, error)
    return ChallengerEnd(challenger.run_id, str(challenger.model), state, error)


def _record_failure(database: Database, challenger: ScoringRun, error: str) -> None:
    try:
        writer.end_run(database, challenger, "failed", error)
    except Exception as failure:  # noqa: BLE001 # its lease ends, and the next run marks it `abandoned`
        logger.warning("could not record how run %s ended: %s", challenger.run_id, failure)


def _judge(
    database: Database,
    challenger: ScoringRun,
    results: Sequence[ChallengerResult],
    seal: Callable[[ScoringRun], None],
) -> tuple[str, str, writer.Totals | None]:
    """Publish a challenger's run, or return the state and the reason that it ends with."""
    from penstock.run.audit import audit_challenger  # not above: it imports pandas

    lost = next((result for result in results if result.error), None)
    if lost is not None:
        return "halted" if lost.halted else "failed", lost.error, None
    found = [result.receipt for result in results if result.receipt]
    audited = audit_challenger(challenger, found, count_rows(database, challenger))
    writer.record_validations(database, challenger, audited.validations)
    seal(challenger)
    halts = audited.halts
    if len(found) > 1 and (doubled := find_doubled_keys(database, challenger)):
        halts = (*halts, doubled)
    if halts:
        return "halted", "; ".join(halts), audited.totals
    publish_challenger(database, challenger, audited.totals, audited.score_quantiles)
    return "published", "", audited.totals
