"""`penstock explain`: one score, with everything that is known about it."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.arguments import AsJson, PipelineName, Timezone
from penstock.cli.opening import connector, ledger_connector, open_models, open_pipeline, open_settings
from penstock.cli.output import console, write_json

if TYPE_CHECKING:
    from penstock.explain.one_score import Explanation
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
    from penstock.explain.one_score import Explainer
    from penstock.explain.sections import build_sections
    from penstock.privacy.row_key import read_row_key

    settings = open_settings()
    spec = open_pipeline(pipeline, settings)
    row_key = read_row_key(key, spec.key)
    warehouse = ledger_connector(settings)(spec.destination.connection)
    explainer = Explainer(spec, settings, warehouse, connector(settings), open_models(settings))
    found = explainer.explain(row_key, run_id or "")
    if as_json:
        write_json(_as_object(spec, found))
    else:
        zone = timezone or settings.timezone
        told = (found.promotions, found.origin, found.absence)
        print_sections(build_sections(spec, found.record, *told, zone), None, console())


def _as_object(pipeline: "Pipeline", found: "Explanation") -> dict[str, Any]:
    from penstock.report.document import run_object

    record, shown = found.record, found.record.shown
    return {
        "pipeline": pipeline.name,
        "key": dict(record.row_key.values),
        "run": run_object(shown.run, None, None) if shown else None,
        "spec_changed": shown is not None and shown.run.spec_fingerprint != pipeline.fingerprint,
        "columns": shown.columns if shown else None,
        "reasons": [asdict(reason) for reason in record.reasons],
        "origin": found.origin if shown else None,
        "absence": found.absence or None,
        "refusals": [asdict(row) | {"fate": row.fate} for row in record.refusals],
        "notes": record.notes,
        "promotions": [asdict(promotion) for promotion in found.promotions],
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
