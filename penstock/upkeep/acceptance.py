"""Publish a run although a gate of the audit halted it: look at its rows once more, and move the pointer."""

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.errors import AcceptRefused
from penstock.interval import iso
from penstock.ledger.acceptance import require_acceptable
from penstock.ledger.challengers import find_challengers
from penstock.ledger.pointer_moves import PointerMove, plan_move, publish_again
from penstock.ledger.reader import RunRecord, validations_of
from penstock.run.doubled_keys import list_doubled_keys, with_keys
from penstock.run_types import Verdict
from penstock.upkeep.live_changes import find_history, read_key, require_rows


def plan_acceptance(database: Database, run_id: str) -> PointerMove:
    """Return what would become live and what would give way if the run were accepted. Change nothing.

    Raises:
        RunNotFound: the ledger has no such run.
        AcceptRefused: the run cannot be accepted.
        PublishRefused: it cannot become live.
    """
    return plan_move(database, [run_id], require_acceptable)


def list_overruled(database: Database, run_id: str) -> list[str]:
    """Return one line for each gate of the audit that halted the run."""
    return list(Verdict(tuple(validations_of(database, run_id))).halts)


def describe_left_halted(database: Database, run: RunRecord) -> str:
    """Say which challengers' runs ended with an accepted run, and what scores the interval with them again.

    Empty: there are none.
    """
    ended = [each for each in find_challengers(database, run.run_id) if each.state == "halted"]
    if not ended:
        return ""
    models = ", ".join(f"{each.model} (run {each.run_id[:8]})" for each in ended)
    span = f" --start {iso(run.interval.start)} --end {iso(run.interval.end)}" if run.interval else ""
    command = f"`penstock run {run.pipeline} --restate{span}`"
    again = f"{command} scores the interval with them again, once no gate halts it"
    return f"still halted: {models}, whose scores nobody has judged. {again}"


def accept_run(database: Database, run_id: str, by: str, reason: str) -> PointerMove:
    """Publish a run that the audit halted, once, and record who did it and why.

    Raises:
        RunNotFound, AcceptRefused, PublishRefused: as `plan_acceptance`, also where rows are missing or a key is there
            twice; nothing changes.
    """
    return publish_again(database, [run_id], by, reason, require_whole, require_acceptable)


def require_whole(connection: sa.Connection, move: PointerMove) -> None:
    """Refuse a run that lacks rows, or that has loaded a key twice. The audit may have halted it before it looked.

    Raises:
        PublishRefused: it has other rows than it scored.
        AcceptRefused: it has a key twice.
    """
    require_rows(connection, move)
    history = find_history(move)
    for run in move.runs:
        if not run.rows_scored:
            continue
        key = read_key(connection, history)
        if list_doubled_keys(connection, run.run_id, key, with_keys(history, key)):
            raise AcceptRefused(run.run_id, run.pipeline, "it has loaded a key twice")
