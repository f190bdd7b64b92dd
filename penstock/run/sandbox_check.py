"""Whether a sandbox may run: it stands beside the pipeline that it is a change of."""

from penstock.database.connections import Database
from penstock.errors import DestinationTaken, SandboxRefused
from penstock.ledger.destinations import refuse_others
from penstock.sources.logs.landed import is_landed
from penstock.spec.pipeline import Pipeline
from penstock.spec.sandbox import find_production
from penstock.spec.sources import LogSource


def check_sandbox(warehouse: Database, pipeline: Pipeline) -> None:
    """Refuse a sandbox whose spec has another name than the pipeline beside it, or that lacks landed lines.

    Raises:
        SandboxRefused: its name is another one, or the pipeline has landed no lines of a log source.
    """
    name = pipeline.destination.sandbox
    try:
        refuse_others(warehouse, find_production(pipeline))
    except DestinationTaken as taken:
        reason = f"stands beside `{taken.table}`, which belongs to `{taken.owner}`, and its spec has another name"
        raise SandboxRefused(name, reason, f"Write `name: {taken.owner}` in the changed spec.") from None
    for source, declared in pipeline.sources.items():
        if isinstance(declared, LogSource) and not is_landed(warehouse, pipeline.name, source):
            reason = f"reads the lines of `{source}` that `{pipeline.name}` has landed, and there are none"
            raise SandboxRefused(name, reason, f"Run `penstock run {pipeline.name}` first.")
