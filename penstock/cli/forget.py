"""`penstock forget`: remove one subject's rows from the warehouse."""

from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.arguments import PipelineName
from penstock.cli.opening import connector, open_pipeline, open_settings
from penstock.cli.output import console, count, make_table
from penstock.errors import SettingsError, nearest

if TYPE_CHECKING:
    from penstock.spec.pipeline import Pipeline
    from penstock.upkeep.erasure import ErasureRequest

FIRST = (
    "The source must forget first: a run that is in flight, and every later one, reads it. "
    "What stays are counts, validations and their sample values, run errors, and Prefect's own history."
)


def add_commands(app: typer.Typer) -> None:
    app.command("forget", epilog="Example: penstock forget card-risk 4711 --dry-run")(forget_subject)


def forget_subject(
    pipeline: PipelineName,
    key: Annotated[
        str | None, typer.Argument(metavar="[KEY]", help="A row's key; a JSON object where it has several columns.")
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(metavar="SOURCE.COLUMN=VALUE", help="Landed log lines and refused rows of a source instead."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, and remove nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove a subject's rows from history, quarantine and landed logs, and leave a record that it was done.

    Rows of superseded and unfinished runs go too. The record holds a hash of the key, never the key.
    """
    from penstock.privacy.masking import make_masking, read_secret
    from penstock.upkeep.erasure import erase

    settings = open_settings()
    spec = open_pipeline(pipeline, settings)
    asked, masking = _read_asked(spec, key, where), make_masking(spec, settings)
    secret = None if dry_run else read_secret(settings, "the record of what was forgotten holds a hash of the key")
    warehouse = connector(settings)(spec.destination.connection)
    _tell(erase(warehouse, asked, masking, None), "would go")
    if secret is None:
        return
    console().print(FIRST, soft_wrap=True)
    if not yes:
        typer.confirm(f"Remove these rows of `{spec.name}` for good?", abort=True)
    _tell(erase(warehouse, asked, masking, secret), "removed")


def _read_asked(spec: "Pipeline", key: str | None, where: str | None) -> "ErasureRequest":
    from penstock.privacy.row_key import RowKey, read_row_key
    from penstock.upkeep.erasure import ErasureRequest

    if (key is None) == (where is None):
        raise typer.BadParameter("give either a KEY or --where")
    if key is not None:
        return ErasureRequest(spec, read_row_key(key, spec.key))
    assert where is not None  # one of the two
    place, mark, value = where.partition("=")
    source, dot, column = place.partition(".")
    if not (mark and dot and column):
        raise typer.BadParameter(f"`{where}` is no condition; write it as in `visits.user=ann`")
    if source not in spec.sources:
        raise SettingsError(
            f"`{spec.name}` has no source `{source}`.{nearest(source, tuple(spec.sources))}".rstrip("."),
            "Name one of its sources before the dot.",
        )
    return ErasureRequest(spec, RowKey({column: value}), source)


def _tell(counts: dict[str, int], done: str) -> None:
    if not any(counts.values()):
        console().print(f"no row {done}")
        return
    table = make_table("table", done, right=(done,))
    for name, rows in counts.items():
        table.add_row(name, count(rows))
    console().print(table)
