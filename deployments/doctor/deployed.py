"""Checks of what is deployed: against the specs, and whether it will run."""

from collections.abc import Iterator, Sequence
from functools import partial

import penstock.flows.score  # noqa: F401 # what deploying compares with; imported while only one thread runs
from penstock.deployments.deploy.changes import Change
from penstock.deployments.deploy.deploy_pipelines import LEFT_ALONE, deploy_pipelines
from penstock.deployments.doctor.context import CheckContext
from penstock.deployments.doctor.databases import embedded_warehouses
from penstock.deployments.doctor.finding import Check, Finding, broken, ok, warning
from penstock.deployments.doctor.judging import (
    judge_heartbeats,
    judge_limits,
    judge_schedules,
    judge_versions,
    judge_workers,
)
from penstock.deployments.doctor.reading import read_facts

SHOWN = 3


def list_checks(case: CheckContext) -> tuple[Check, ...]:
    return (
        Check("deployments", partial(check_deployments, case), needs_server=True),
        Check("schedules", partial(check_running, case), needs_server=True),
    )


def check_deployments(case: CheckContext) -> Iterator[Finding]:
    """Ask what a deploy would change; orphans are looked for only where every spec loads."""
    folder = case.settings.pipelines
    files = [folder / f"{p.name}.yaml" for p in case.pipelines] if case.spec_errors or not folder.is_dir() else None
    yield from judge_changes(deploy_pipelines(case.server, case.settings, files, dry_run=True))


def judge_changes(changes: Sequence[Change]) -> Iterator[Finding]:
    """Tell what the server has otherwise than the specs say."""
    orphans = [change.what for change in changes if LEFT_ALONE in change.details]
    differing = [change for change in changes if change.kind != "unchanged"]
    missing = [change.what for change in differing if change.kind == "created"]
    if missing:
        yield warning("deployments", f"not on the server: {', '.join(missing)}", "Run `penstock deploy`.")
    for change in differing:
        if change.kind == "updated":
            told = f"{change.what} is out of date ({'; '.join(change.details[:SHOWN])})"
            yield warning("deployments", told, "Run `penstock deploy`.")
        if change.kind == "removed":
            yield warning("deployments", f"{change.what} has no spec behind it", "Run `penstock deploy`.")
    for orphan in orphans:
        told = f"{orphan}: no spec stands behind it, so its runs fail"
        yield broken("orphans", told, "Run `penstock deploy --yes`, which removes it.")
    if not differing:
        yield ok("deployments", f"{len(changes) - len(orphans)} objects on the server are as the specs say")


def check_running(case: CheckContext) -> Iterator[Finding]:
    """Look whether what is deployed will run: schedules, limits, workers, signs of life."""
    facts = read_facts(case.server, case.now)
    yield from judge_schedules(facts)
    yield from judge_versions(facts)
    yield from judge_limits(facts)
    yield from judge_workers(facts)
    yield from judge_heartbeats(facts)
    workers = len(facts.pool.workers) if facts.pool else 0
    for name in embedded_warehouses(case) if workers > 1 else ():
        told = f"{workers} are online, and `{name}` is a file: a worker on another machine writes one of its own"
        yield warning("workers", told, "Keep all workers on one machine, or use Postgres.")
