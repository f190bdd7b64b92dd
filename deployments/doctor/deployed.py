"""Checks of the deployments: whether they match the specs, and whether they will run."""

from collections.abc import Iterator, Sequence
from functools import partial

import penstock.flows.score  # noqa: F401 # needed for the comparison; imported while only one thread runs
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
    """Find out what a deploy would change. Orphans are searched only if every spec loads."""
    folder = case.settings.pipelines
    files = [folder / f"{p.name}.yaml" for p in case.pipelines] if case.spec_errors or not folder.is_dir() else None
    yield from judge_changes(deploy_pipelines(case.server, case.settings, files, dry_run=True))


def judge_changes(changes: Sequence[Change]) -> Iterator[Finding]:
    """Report differences between the server and the specs."""
    orphans = [change.what for change in changes if LEFT_ALONE in change.details]
    differing = [change for change in changes if change.kind != "unchanged"]
    missing = [change.what for change in differing if change.kind == "created"]
    if missing:
        yield warning("deployments", f"not on the server: {', '.join(missing)}", "Run `penstock deploy`.")
    for change in differing:
        if change.kind == "updated":
            what = f"{change.what} is out of date ({'; '.join(change.details[:SHOWN])})"
            yield warning("deployments", what, "Run `penstock deploy`.")
        if change.kind == "removed":
            yield warning("deployments", f"{change.what} has no spec", "Run `penstock deploy`.")
    for orphan in orphans:
        what = f"{orphan}: it has no spec, so its runs fail"
        yield broken("orphans", what, "Run `penstock deploy --yes`, which removes it.")
    if not differing:
        yield ok("deployments", f"{len(changes) - len(orphans)} objects on the server match the specs")


def check_running(case: CheckContext) -> Iterator[Finding]:
    """Check whether the deployments will run: schedules, limits, workers, heartbeats."""
    facts = read_facts(case.server, case.now, case.settings.timezone)
    yield from judge_schedules(facts)
    yield from judge_versions(facts)
    yield from judge_limits(facts)
    yield from judge_workers(facts)
    yield from judge_heartbeats(facts)
    workers = len(facts.pool.workers) if facts.pool else 0
    for name in embedded_warehouses(case) if workers > 1 else ():
        what = f"{workers} are online, and `{name}` is a file: a worker on another machine writes its own file"
        yield warning("workers", what, "Keep all workers on one machine, or use Postgres.")
