"""`penstock explain`: one score, with everything that is known about it."""

import json
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.arguments import AsJson, PipelineName, Timezone
from penstock.cli.opening import connector, ledger_connector, open_models, open_pipeline, open_settings
from penstock.cli.output import console, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.explain.promotions import Promotion
    from penstock.explain.scores import KeyRecord
    from penstock.privacy.masking import MaskingPolicy
    from penstock.privacy.secret_keys import KeyRing
    from penstock.settings import Settings
    from penstock.spec.pipeline import Pipeline


def add_commands(app: typer.Typer) -> None:
    app.command("explain", epilog="Example: penstock explain card-risk 4711")(explain_score)


def explain_score(
    pipeline: PipelineName,
    key: Annotated[
        str, typer.Argument(metavar="KEY", help="A row's key, or a JSON object for a key of several columns.")
    ],
    run_id: Annotated[
        str | None, typer.Option("--run", metavar="RUN_ID", help="Explain the score of this run, not the live one.")
    ] = None,
    timezone: Timezone = None,
    as_json: AsJson = False,
) -> None:
    """Explain one score: run, model, reasons, refusals, and the key's scores in other runs. Writes nothing.

    Reasons that no run has stored are made now, if the model still gives the row the same score.
    """
    from penstock.cli.run_page import print_sections
    from penstock.explain.in_source import describe_absence
    from penstock.explain.promotions import read_promotions
    from penstock.explain.scores import read_key
    from penstock.explain.sections import build_sections
    from penstock.privacy.masking import make_masking, make_record_masking
    from penstock.privacy.row_key import read_row_key

    settings = open_settings()
    spec = open_pipeline(pipeline, settings)
    row_key, masking = read_row_key(key, spec.key), make_masking(spec, settings)
    warehouse = ledger_connector(settings)(spec.destination.connection)
    records = make_record_masking(settings)
    record = read_key(warehouse, spec, row_key, masking, records, run_id or "", _seal_keys(settings))
    origin, absence = "stored with the run", ""
    if record.lacks_reasons:
        record, origin = _explain_now(spec, settings, record, masking)
    elif record.shown is None and run_id:
        absence = f"Run {run_id} has not scored this key."
    elif record.shown is None and not record.refusals:
        absence = describe_absence(spec, row_key, connector(settings), warehouse)
    promotions = read_promotions(open_models(settings), record.shown.run) if record.shown else ()
    if as_json:
        write_json(_as_object(spec, record, promotions, origin, absence))
    else:
        zone = timezone or settings.timezone
        print_sections(build_sections(spec, record, promotions, origin, absence, zone), None, console())


def _seal_keys(settings: "Settings") -> "KeyRing | None":
    from penstock.seals.keys import read_seal_keys

    return read_seal_keys(settings, "the row's seal is checked") if settings.seal_key else None


def _explain_now(
    pipeline: "Pipeline", settings: "Settings", record: "KeyRecord", masking: "MaskingPolicy"
) -> "tuple[KeyRecord, str]":
    """Return the record with reasons that were made now, and where they come from."""
    from penstock.explain.on_demand import make_reasons
    from penstock.run.partition_options import PartitionOptions

    assert record.shown is not None
    options = PartitionOptions(masking, settings.statement_seconds)
    with ExitStack() as opened:
        folder = opened.enter_context(TemporaryDirectory(prefix="penstock-"))
        connect = replace(connector(settings), run_folder=Path(folder))
        made = make_reasons(
            pipeline,
            record.row_key,
            record.shown,
            connect,
            open_models(settings),
            options,
            chosen=bool(record.reasons),
        )
    if made.refused:
        return record, f"none. They are not stored, and cannot be made now: {made.refused}"
    return replace(record, reasons=made.reasons), "made now, from the same score"


def _as_object(
    pipeline: "Pipeline", record: "KeyRecord", promotions: "Sequence[Promotion]", origin: str, absence: str
) -> dict[str, Any]:
    from penstock.report.document import run_object

    shown = record.shown
    return {
        "pipeline": pipeline.name,
        "key": dict(record.row_key.values),
        "run": run_object(shown.run, None, None) if shown else None,
        "spec_changed": shown is not None and shown.run.spec_fingerprint != pipeline.fingerprint,
        "columns": shown.columns if shown else None,
        "reasons": [asdict(reason) for reason in record.reasons],
        "origin": origin if shown else None,
        "absence": absence or None,
        "refusals": [asdict(row) | {"fate": row.fate} for row in record.refusals],
        "notes": record.notes,
        "promotions": [asdict(promotion) for promotion in promotions],
        "moves": [asdict(move) for move in record.moves],
        "forgotten_at": record.forgotten_at,
        "seal": record.seal or None,
        "labels": [{"value": json.loads(label.value), "seen_at": label.seen_at} for label in record.labels],
        "drift": [
            {
                "column": each.profile.column,
                "alarm": each.profile.alarm,
                "psi": each.psi,
                "null_change": each.null_change,
            }
            for each in record.drift.compared
        ],
        "others": [
            {
                "run_id": other.run.run_id,
                "interval": other.run.interval_key,
                "variant": other.run.variant,
                "state": other.run.state,
                "models": other.run.models,
                "columns": other.columns,
            }
            for other in record.others
        ],
    }
