"""`penstock show`: one run, with everything that the ledger has about it."""

import typer

from penstock.cli.arguments import AsJson, RunId, Timezone
from penstock.cli.flow_run_link import find_ui, flow_run_link
from penstock.cli.opening import locate_run, open_settings
from penstock.cli.output import console, write_json


def add_commands(app: typer.Typer) -> None:
    app.command("show", epilog="Example: penstock show 1a2b3c4d")(show_run)


def show_run(run_id: RunId, timezone: Timezone = None, as_json: AsJson = False) -> None:
    """Show one run: counts, validations, quarantine, timings, scores and their shift, the interval's earlier runs."""
    from penstock.cli.run_page import print_document
    from penstock.report.document import document_object, read_document

    settings = open_settings()
    database, run = locate_run(settings, run_id)
    document, link = read_document(database, run), flow_run_link(run, find_ui(settings))
    if as_json:
        write_json(document_object(document, link))
    else:
        print_document(document, link, console(), timezone or settings.timezone)
