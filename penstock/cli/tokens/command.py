"""`penstock tokens`: add, list and remove the tokens of the server's users."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.arguments import AsJson, Timezone, Yes
from penstock.cli.opening import open_settings
from penstock.cli.output import console, error_console, make_table, write_json

File = Annotated[
    Path | None,
    typer.Option("--file", metavar="FILE", help="The token file. Default: PENSTOCK_TOKEN_FILE, else .penstock/tokens."),
]
TokenName = Annotated[str, typer.Argument(metavar="NAME", help="Name of a person or a program.")]


def add_commands(app: typer.Typer) -> None:
    group = typer.Typer(
        help="Add, list and remove the tokens with which people and programs use the server.", no_args_is_help=True
    )
    group.command("add", epilog="Example: penstock tokens add ana --role operator")(add_one)
    group.command("list", epilog="Example: penstock tokens list")(list_tokens)
    group.command("remove", epilog="Example: penstock tokens remove ana")(remove_one)
    app.add_typer(group, name="tokens")


def add_one(
    name: TokenName,
    role: Annotated[
        str,
        typer.Option(
            metavar="ROLE",
            help="reader: read pages and scores, and score rows. operator: also accept halted runs and release "
            "refused rows. approver: also decide on promotions.",
        ),
    ],
    file: File = None,
) -> None:
    """Make a token and print it. Only its hash is stored, so it cannot be shown again.

    A running server takes it at once. To replace a token, add one with another name, move to it, and remove the old.
    """
    from penstock.access.token_file import add_token
    from penstock.access.tokens import ROLES

    if role not in ROLES:
        raise typer.BadParameter(f"`{role}` is no role. Use {', '.join(ROLES)}.", param_hint="--role")
    path = _find_file(file)
    if file is None:
        path.parent.mkdir(parents=True, exist_ok=True)
    token = add_token(path, name, role, datetime.now(UTC))
    error_console().print(f"{name} is {role}, in {path}. The token is shown only here:", markup=False, soft_wrap=True)
    typer.echo(token)


def list_tokens(file: File = None, timezone: Timezone = None, as_json: AsJson = False) -> None:
    """List names, roles and the times at which tokens were added. The tokens themselves are not known."""
    from penstock.access.token_file import read_tokens
    from penstock.timezones import describe_moment

    stored = read_tokens(_find_file(file))
    if as_json:
        write_json([{"name": each.name, "role": each.role, "added_at": each.added_at} for each in stored])
        return
    table = make_table("name", "role", "added")
    for each in stored:
        table.add_row(each.name, each.role, describe_moment(each.added_at, timezone or open_settings().timezone))
    console().print(table if stored else "no tokens")


def remove_one(name: TokenName, file: File = None, yes: Yes = False) -> None:
    """Remove a token. A running server refuses it from its next request on, and signs its sessions out."""
    from penstock.access.token_file import remove_token

    path = _find_file(file)
    if not yes:
        typer.confirm(f"Remove the token of {name} from {path}?", abort=True)
    remove_token(path, name)
    console().print(f"removed the token of {name} from {path}", markup=False, soft_wrap=True)


def _find_file(file: Path | None) -> Path:
    return file or open_settings().tokens_file
