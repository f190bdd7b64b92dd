"""`penstock models history`: who moved which alias, when and why."""

from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from penstock.cli.arguments import AsJson, ModelName, Timezone
from penstock.cli.opening import open_models, open_settings
from penstock.cli.output import console, make_table, write_json

SHOWN = 8
"""First characters of a digest or of an ID in the table. `--json` has all of them."""


def show_history(
    name: ModelName,
    alias: Annotated[str | None, typer.Option(help="Only the moves of this alias.")] = None,
    timezone: Timezone = None,
    as_json: AsJson = False,
) -> None:
    """Show every move of a model's aliases, the newest first: when, from which version to which, who and why.

    A move by the flow `promote` has the digest of its evidence, which `penstock models gate --json` shows.
    """
    from rich.text import Text

    settings = open_settings()
    known = open_models(settings).alias_history(name)
    moves = [move for move in reversed(known) if alias in (None, move.alias)]
    if as_json:
        write_json([move.model_dump() for move in moves])
        return
    if not moves:
        which = f"alias `{alias}`" if alias else "aliases"
        console().print(f"the {which} of {name} {'was' if alias else 'were'} never moved", markup=False)
        return
    zone = timezone or settings.timezone
    table = make_table(f"moved at ({zone})", "alias", "from", "to", "by", "note", "evidence", "flow run")
    for move in moves:
        at = f"{move.at.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M}"
        told = (move.alias, move.previous or "–", move.version, Text(move.by or "–"), Text(move.note))
        table.add_row(at, *told, move.evidence[:SHOWN] or "by hand", move.flow_run_id[:SHOWN])
    console().print(table)
