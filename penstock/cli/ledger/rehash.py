"""`penstock ledger rehash`: write hashes of private values under the current key."""

from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.arguments import AsJson, OptionalPipeline
from penstock.cli.opening import connector, ledger_connector, open_pipeline, open_settings, pipelines_by_warehouse
from penstock.cli.output import console, count, make_table, write_json
from penstock.wording import plural

if TYPE_CHECKING:
    from penstock.privacy.secret_keys import KeyRing
    from penstock.settings import Settings
    from penstock.spec.pipeline import Pipeline
    from penstock.upkeep.key_counts import KeyCount


def rehash(
    pipeline: OptionalPipeline = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count the rows by key, write nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the hashes of private values under PENSTOCK_PRIVATE_KEY that are under another key.

    The values are read again from the scored rows and from the sources. Hashes of values that are no longer there stay
    as they are, and are counted: they are found only as long as PENSTOCK_PRIVATE_KEY_OLD is their key.
    """
    from penstock.privacy.masking import read_private_keys
    from penstock.upkeep.key_counts import count_keys

    settings = open_settings()
    keys = read_private_keys(settings, "hashes of private values are written anew")
    connect, out = ledger_connector(settings), []
    for spec in _list_private(settings, pipeline):
        written = {} if dry_run else _rehash(settings, spec)
        counts = count_keys(connect(spec.destination.connection), keys, [spec.name])
        out += [{"pipeline": spec.name, **asdict(each), "rehashed": written.get(each.table, 0)} for each in counts]
        if not as_json:
            _print(spec.name, counts, written, keys)
    if as_json:
        write_json(out)
    elif not out:
        console().print("the ledger has no hashes of private values")


def _list_private(settings: "Settings", name: str | None) -> "list[Pipeline]":
    names = [name] if name else [each for found in pipelines_by_warehouse(settings).values() for each in found]
    return [open_pipeline(each, settings) for each in names]


def _rehash(settings: "Settings", spec: "Pipeline") -> dict[str, int]:
    from penstock.privacy.masking import make_masking
    from penstock.upkeep.rehash import rehash_pipeline

    warehouse = ledger_connector(settings)(spec.destination.connection)
    with TemporaryDirectory(prefix="penstock-") as folder:
        connect = replace(connector(settings), run_folder=Path(folder))
        return rehash_pipeline(warehouse, spec, connect, make_masking(spec, settings), datetime.now(UTC))


def _print(pipeline: str, counts: "list[KeyCount]", written: dict[str, int], keys: "KeyRing") -> None:
    if not counts:
        return
    former = keys.former.id if keys.former else "former"
    titles = (f"key {keys.current.id}", f"key {former}", "another key")
    table = make_table("table", "rehashed", *titles, right=("rehashed", *titles))
    for each in counts:
        rows = (written.get(each.table, 0), each.current, each.former, each.other)
        table.add_row(each.table, *map(count, rows))
    out = console()
    out.print(f"{pipeline}:", markup=False)
    out.print(table)
    left = sum(each.left for each in counts)
    if left:
        text = f"{plural(left, 'row is', 'rows are')} not under the current key. Keep PENSTOCK_PRIVATE_KEY_OLD, or they"
        out.print(f"{text} can no longer be found by their keys.", style="yellow", soft_wrap=True)
    else:
        out.print("Every row is under the current key. PENSTOCK_PRIVATE_KEY_OLD can go.", style="green", soft_wrap=True)
