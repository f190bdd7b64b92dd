"""`penstock ledger verify` and `accept`: check the invariants of the ledger, and accept a new one."""

import typer

from penstock.cli.arguments import AsJson
from penstock.cli.opening import connector, open_ledgers, open_settings, pipelines_by_warehouse
from penstock.cli.output import console, error_console, write_json
from penstock.wording import plural


def verify(as_json: AsJson = False) -> None:
    """Check every invariant of the ledger against its rows and the scores that readers see. Change nothing.

    Each warehouse that a pipeline writes to is checked. The exit code is 1 if an invariant does not hold.
    """
    from penstock.upkeep.verify import verify_ledger
    from penstock.upkeep.violations import SHOWN

    found = [(database.name, each) for database in open_ledgers(open_settings()) for each in verify_ledger(database)]
    if as_json:
        write_json([{"connection": name, **vars(each)} for name, each in found])
    elif not found:
        console().print("every invariant of the ledger holds", style="green")
    else:
        screen = error_console()
        for name, each in found:
            screen.print(f"{name}: {each.where}: broken: {each.invariant}", style="red", markup=False, soft_wrap=True)
            for row in each.rows:
                screen.print(f"  {row}", markup=False, soft_wrap=True)
            if len(each.rows) == SHOWN:
                screen.print(f"  the first {SHOWN}; there may be more", markup=False)
            screen.print(f"  {each.remedy}", markup=False, soft_wrap=True)
        screen.print(f"{plural(len(found), 'violation')}; nothing was changed", markup=False)
    if found:
        raise typer.Exit(1)


def accept() -> None:
    """Accept the warehouses as they are now. Where a ledger is missing, make a new, empty one.

    Run this only if the old ledger is meant to be gone: the next runs land all log lines and publish the whole history
    again. The Prefect server keeps a record too: that of `penstock up` here, or the one that PREFECT_API_URL names.
    """
    from penstock.ledger.known_ledgers import accept_ledger
    from penstock.settings import prefect_api_url

    settings, out = open_settings(), console()
    connect = connector(settings)
    accepted = {name: accept_ledger(connect(name), settings.home) for name in pipelines_by_warehouse(settings)}
    for name, known in accepted.items():
        out.print(f"{name}: the ledger in {known.place}, made {known.made_at}", markup=False, soft_wrap=True)
    if prefect_api_url() is None and not (settings.home / "prefect").exists():
        out.print(
            "No Prefect server is known here. If pipelines are deployed, set PREFECT_API_URL and repeat the command.",
            style="yellow",
            soft_wrap=True,
        )
        return
    from penstock.cli.prefect_api import prefect_api

    with prefect_api(settings) as api_url:
        from penstock.tasks.ledger_record import read_record, write_record

        for name, pipelines in pipelines_by_warehouse(settings).items():
            for pipeline in pipelines:
                if read_record(pipeline) is not None:
                    write_record(pipeline, accepted[name])
    out.print(f"The Prefect server at {api_url} knows it.", markup=False, soft_wrap=True)
