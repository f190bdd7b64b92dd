"""`penstock forget`: remove the rows of one key from the warehouse."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.arguments import PipelineName, Yes
from penstock.cli.deliver.targets import deliver_moves
from penstock.cli.opening import ledger_connector, open_pipeline, open_settings
from penstock.cli.output import console, count, make_table
from penstock.errors import SettingsError, nearest
from penstock.wording import plural

if TYPE_CHECKING:
    from penstock.spec.pipeline import Pipeline
    from penstock.upkeep.erasure import ErasureRequest

FIRST = (
    "Delete the rows at the source first: running and later runs read the source. "
    "Counts, validations and their sample values, run errors, and Prefect's own history stay."
)


def add_commands(app: typer.Typer) -> None:
    app.command("forget", epilog="Example: penstock forget card-risk 4711 --dry-run")(forget_rows)


def forget_rows(
    pipeline: PipelineName,
    key: Annotated[
        str | None, typer.Argument(metavar="[KEY]", help="A row's key, or a JSON object for a key of several columns.")
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE.COLUMN=VALUE",
            help="Instead of a key: log lines, refused rows and recorded rows of a source.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count the rows, remove nothing.")] = False,
    yes: Yes = False,
) -> None:
    """Remove the rows of one key from history, quarantine, landed logs and recorded requests, and record it.

    Rows of superseded and unfinished runs are removed too, and then at the targets of `deliver`. The record has a hash
    of the key, never the key.
    """
    from penstock.ledger.served_spool import open_spool, settle_served_runs
    from penstock.privacy.masking import make_masking, read_private_keys
    from penstock.seals.keys import read_seal_keys
    from penstock.upkeep.erasure import erase

    settings = open_settings()
    spec = open_pipeline(pipeline, settings)
    asked, masking = _read_asked(spec, key, where), make_masking(spec, settings)
    why = "the record of the removal has a hash of the key"
    secret = None if dry_run else read_private_keys(settings, why).current.secret
    warehouse = ledger_connector(settings)(spec.destination.connection)
    spool = open_spool(settings.home)
    counts = erase(warehouse, asked, masking, None, spool=spool)
    _print_counts(counts, "would be removed")
    if secret is None:
        return
    console().print(FIRST, soft_wrap=True)
    if not yes:
        typer.confirm(f"Remove these rows of `{spec.name}` permanently?", abort=True)
    open_keys = partial(read_seal_keys, settings, f"rows of `{spec.name}` are sealed")
    settle_served_runs(warehouse, settings.home, spec)  # before: what was erased must not be taken in later
    counts = erase(warehouse, asked, masking, secret, open_keys, spool)
    _print_counts(counts, "removed")
    deliver_moves(settings, [(warehouse, spec.name)])


def _read_asked(spec: "Pipeline", key: str | None, where: str | None) -> "ErasureRequest":
    from penstock.privacy.row_key import RowKey, read_row_key
    from penstock.upkeep.erasure import ErasureRequest

    if (key is None) == (where is None):
        raise typer.BadParameter("give either a KEY or --where")
    if key is not None:
        return ErasureRequest(spec, read_row_key(key, spec.key))
    assert where is not None  # exactly one of the two is given
    place, mark, value = where.partition("=")
    source, dot, column = place.partition(".")
    if not (mark and dot and column):
        raise typer.BadParameter(f"`{where}` is not a condition; write it like `visits.user=ann`")
    if source not in spec.sources:
        raise SettingsError(
            f"`{spec.name}` has no source `{source}`.{nearest(source, tuple(spec.sources))}".rstrip("."),
            "Name one of its sources before the dot.",
        )
    return ErasureRequest(spec, RowKey({column: value}), source)


def _print_counts(counts: dict[str, int], done: str) -> None:
    from penstock.upkeep.erasure import BY_HAND

    by_hand = counts.pop(BY_HAND, 0)
    if not any(counts.values()):
        console().print(f"no row {done}")
        return
    table = make_table("table", done, right=(done,))
    for name, rows in counts.items():
        table.add_row(name, count(rows))
    console().print(table)
    if by_hand:
        text = f"{plural(by_hand, 'row')} at targets that `deliver` no longer reaches: to be removed there by hand"
        console().print(text, style="yellow", soft_wrap=True)
