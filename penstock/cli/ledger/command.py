"""`penstock ledger`: the group of its commands."""

import typer

from penstock.cli.ledger.rehash import rehash
from penstock.cli.ledger.seals import check_seals, list_seals
from penstock.cli.ledger.take_in import take_in
from penstock.cli.ledger.verify import accept, verify


def add_commands(app: typer.Typer) -> None:
    group = typer.Typer(
        help="Check the ledger and the seals of rows, change keys, or accept a new ledger.", no_args_is_help=True
    )
    group.command("verify", epilog="Example: penstock ledger verify")(verify)
    group.command("check-seals", epilog="Example: penstock ledger check-seals card-risk")(check_seals)
    group.command("seals", epilog="Example: penstock ledger seals card-risk --json > seals.json")(list_seals)
    group.command("rehash", epilog="Example: penstock ledger rehash card-risk --dry-run")(rehash)
    group.command("take-in", epilog="Example: penstock ledger take-in card-risk")(take_in)
    group.command("accept", epilog="Example: penstock ledger accept")(accept)
    app.add_typer(group, name="ledger")
