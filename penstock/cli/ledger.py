"""`penstock ledger verify`: check the invariants of the ledger."""

import typer

from penstock.cli.arguments import AsJson
from penstock.cli.opening import open_ledgers, open_settings
from penstock.cli.output import console, error_console, write_json
from penstock.wording import plural


def add_commands(app: typer.Typer) -> None:
    group = typer.Typer(help="Check the ledger.", no_args_is_help=True)
    group.command("verify", epilog="Example: penstock ledger verify")(verify)
    app.add_typer(group, name="ledger")


def verify(as_json: AsJson = False) -> None:
    """Check every invariant of the ledger against its rows and the scores that readers see. Change nothing.

    Each warehouse that a pipeline writes to is checked. The exit code is 1 if an invariant does not hold.
    """
    from penstock.upkeep.verify import SHOWN, verify_ledger

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
