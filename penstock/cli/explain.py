"""`penstock explain`: one score, with everything that is known about it."""

from typing import Annotated

import typer

from penstock.cli.arguments import AsJson, PipelineName, Timezone
from penstock.cli.opening import connector, ledger_connector, open_models, open_pipeline, open_settings
from penstock.cli.output import console, write_json


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
    from penstock.explain.as_object import explanation_object
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
        write_json(explanation_object(spec, found))
    else:
        zone = timezone or settings.timezone
        told = (found.promotions, found.origin, found.absence)
        print_sections(build_sections(spec, found.record, *told, zone), None, console())
