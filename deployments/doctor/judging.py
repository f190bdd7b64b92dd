"""Judge the facts of a Prefect server. Pure functions from facts to findings."""

from collections.abc import Iterator
from datetime import timedelta

from penstock.deployments.deploy.work_pool import WORK_POOL
from penstock.deployments.doctor.finding import Finding, broken, ok, warning
from penstock.deployments.doctor.reading import Facts

PLANNING = timedelta(minutes=2)
"""How long the scheduler may take to plan the runs of a deployment that has just changed."""
LATE = timedelta(minutes=15)
RESUME = (
    "When it should run again, run `penstock resume NAME`, or turn its schedule on in the UI. If its file has "
    "`active: false`, change the file and run `penstock deploy`."
)
RESUME_PROMOTION = (
    "When it should run again, turn its schedule on in the UI. If `promotion.schedule` has `active: false`, change the "
    "files of its pipelines and run `penstock deploy`."
)
SHOWN = 3
"""Names of workers in a finding."""
HEARTBEATS = 3
"""Number of heartbeats in a row that must be missing before a run counts as dead."""


def judge_schedules(facts: Facts) -> Iterator[Finding]:
    """Check whether each schedule has planned runs, and whether due runs have started."""
    well = 0
    for deployment in facts.deployments:
        if deployment.pause:
            what = f"{deployment.name} is {deployment.pause}: no run starts by itself"
            what += f"; {deployment.reason}" if deployment.reason else ""
            flow, _, name = deployment.name.partition("/")
            remedy = RESUME_PROMOTION if flow == "promote" else RESUME.replace("NAME", name)
            yield warning("schedules", what, remedy)
        if not deployment.is_scheduled:
            continue
        if deployment.next_run is None:
            what = f"{deployment.name} has a schedule and no planned run"
            if deployment.age < PLANNING:
                yield warning("schedules", f"{what} yet: it has just been changed", "Check again in a minute.")
            else:
                remedy = "Restart the server, and read its log. With SQLAlchemy 2.1 its scheduler creates no runs."
                yield broken("schedules", what, remedy)
        elif deployment.next_run < facts.now - LATE:
            what = f"{deployment.name} should have started at {deployment.next_run:%Y-%m-%d %H:%M} UTC"
            yield warning("schedules", what, "Start a worker. One run catches up, and the late ones are skipped.")
        else:
            well += 1
    if well or not facts.is_scheduled:
        yield ok("schedules", f"{well} with planned runs" if well else "none is active")


def judge_versions(facts: Facts) -> Iterator[Finding]:
    """Look for deployments and a work pool that an older version of Penstock made."""
    old = [deployment.name for deployment in facts.deployments if deployment.is_of_old_version]
    if facts.pool is not None and facts.pool.starts_old_engine:
        old.append(f"work pool {WORK_POOL}")
    if old:
        what = f"Penstock 0.1 made {', '.join(old)}: flow runs start by module names that 0.3 removes"
        yield warning("versions", what, "Run `penstock deploy`, which changes them to the new names.")


def judge_limits(facts: Facts) -> Iterator[Finding]:
    """Find limits that cancel. There, one dead run keeps the slot, and every later run is cancelled."""
    for deployment in facts.deployments:
        if deployment.collision == "CANCEL_NEW":
            what = f"{deployment.name} cancels a run that meets another: one dead run stops its schedule permanently"
            yield broken("limits", what, "Run `penstock deploy`, which sets ENQUEUE.")


def judge_workers(facts: Facts) -> Iterator[Finding]:
    """Check whether a worker takes the runs."""
    if facts.pool is None:
        yield warning("work pool", f"there is no work pool `{WORK_POOL}`", "Run `penstock deploy`.")
        return
    if facts.pool.is_paused:
        resume = f"`prefect work-pool resume {WORK_POOL}`"
        yield warning("work pool", f"`{WORK_POOL}` is paused: nothing starts", f"Resume it: {resume}.")
    if facts.pool.workers:
        names = sorted(facts.pool.workers)
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        yield ok("workers", f"{len(names)} online: {', '.join(names[:SHOWN])}{more}")
        return
    report = broken if facts.is_scheduled else warning
    yield report(
        "workers",
        "none is online: no run starts",
        f"Start one: `penstock up`, or `prefect worker start --pool {WORK_POOL}`.",
    )


def judge_heartbeats(facts: Facts) -> Iterator[Finding]:
    """Compare the interval of runs' heartbeats with the time that the server waits for one."""
    if not facts.deployments:
        return
    patience = facts.zombie_seconds
    if patience is None:
        what = "nothing ends a run whose process died: Prefect shows it as Running for ever"
        yield warning("heartbeats", what, "Run `penstock deploy`, or turn on the automation `penstock: zombie runs`.")
        return
    slow = [d for d in facts.deployments if d.heartbeat_seconds * HEARTBEATS > patience]
    for deployment in slow:
        every = f"{deployment.name} sends one every {deployment.heartbeat_seconds} s"
        what = f"{every} and is ended after {patience:.0f} s: healthy runs end as Crashed"
        yield broken("heartbeats", what, "Run `penstock deploy`.")
    if not slow:
        yield ok("heartbeats", f"a run without one for {patience:.0f} s is ended as Crashed")
