"""What a partition does for the challengers: choose their rows, and catch their errors."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pyarrow as pa

from penstock.errors import DestinationMismatch, PenstockError
from penstock.ledger.run_lease import describe_error
from penstock.run.key_hash import SPACE, hash_keys
from penstock.run_types import ChallengerResult, Features, Receipt, ScoringRun, Validation

CHALLENGERS = "challengers"
"""The stage of what is noted about challengers without a run."""


def try_challenger(challenger: ScoringRun, score: Callable[[], Receipt]) -> ChallengerResult:
    """Score a partition with a challenger. Its error, whatever it is, becomes its result."""
    try:
        return ChallengerResult(challenger.run_id, score())
    except Exception as error:  # noqa: BLE001 # the champion's run goes on without this challenger
        halted = isinstance(error, PenstockError) and error.exit_code == 3
        return ChallengerResult(challenger.run_id, error=describe_error(challenger.pipeline, error), halted=halted)


def results_of(receipts: Sequence[Receipt], run_id: str) -> list[ChallengerResult]:
    """Return what one challenger made of the partitions."""
    return [result for receipt in receipts for result in receipt.challengers if result.run_id == run_id]


def take_share(features: Features, key: Sequence[str], share: float) -> Features:
    """Return the rows that a challenger scores, and nothing else that the audit of the champion needs.

    The rows that it leaves out count as excluded. The hash of a row's key decides, so every partition size, runner and
    database gives the same rows, and a larger share has all rows of a smaller one.
    """
    own = replace(features, audit={}, columns={})
    if share >= 1:
        return own
    chosen = pa.array(choose_by_key(features.table.select(list(key)), share), pa.bool_())
    taken = features.table.filter(chosen)
    return replace(own, table=taken, excluded=features.excluded + features.table.num_rows - taken.num_rows)


def choose_by_key(keys: pa.Table, share: float) -> list[bool]:
    """Say of each key whether it belongs to the share."""
    limit = int(share * SPACE)
    return [number < limit for number in hash_keys(keys)]


def refuse_other_columns(run: ScoringRun, champion: pa.Schema, challenger: pa.Schema) -> None:
    """Refuse scores that the history table would have to change for.

    Raises:
        DestinationMismatch: the columns are not those of the champion.
    """
    mine, theirs = ({f.name: str(f.type) for f in schema} for schema in (challenger, champion))
    if mine == theirs:
        return
    odd = sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
    described = ", ".join(
        f"`{name}` ({theirs.get(name, 'none')} of the champion, {mine.get(name, 'none')} of it)" for name in odd
    )
    raise DestinationMismatch(
        run.pipeline.destination.table,
        f"the challenger {run.model} has other columns than the champion: {described}",
        "Register a version with the champion's outputs, or score it in a pipeline of its own",
    )


def note_left_out(run: ScoringRun) -> tuple[Validation, ...]:
    """Return a note for each challenger of the spec that has no run."""
    return tuple(
        Validation(
            CHALLENGERS, each.model, "warning" if each.failed else "info", 0, 0, "noted", f"not scored: {each.why}"
        )
        for each in run.left_out
    )
