"""Explain the rows of a run that its partitions have kept, when all of them are loaded."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from penstock.database.connections import Database
from penstock.explain.reasons import explain_scored
from penstock.privacy.masking import MaskingPolicy
from penstock.run.explained_rows import ReasonCounts, read_reason_counts, write_reasons
from penstock.run_types import ChosenRows, ScoringRun

if TYPE_CHECKING:
    from penstock.models.booster import ModelVersion


def explain_run(
    database: Database,
    run: ScoringRun,
    chosen: ChosenRows,
    load_model: "Callable[[], ModelVersion]",
    masking: MaskingPolicy,
    check: Callable[[], None],
) -> ReasonCounts:
    """Make the reasons of the kept rows and write them with their counts. A second call changes nothing.

    Args:
        load_model: Gives the version that decides. Not called if there is nothing to explain.
        check: Called before each block of rows. It raises if the run is to end at once.

    Raises:
        NotAdditive: the contributions of a row do not add up to its margin; nothing is written.
        TakenOver: the run is no longer running; nothing is written.
        ReconciliationFailed: the rows are not those that were loaded; nothing is written.
    """
    reasons = run.pipeline.reasons
    assert reasons is not None
    stored = read_reason_counts(database, run)
    if stored is not None:
        return stored
    model = load_model() if chosen.kept else None
    made = [
        table
        for kept in chosen.kept
        if model is not None
        for table in explain_scored(run.pipeline, reasons, kept.rows, model, masking, check)
    ]
    return write_reasons(database, run, made, ReasonCounts(chosen.kept_rows, chosen.over_budget))
