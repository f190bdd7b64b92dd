"""`penstock ledger take-in`: move recorded requests from the spool of this machine into the warehouse."""

from penstock.cli.arguments import OptionalPipeline
from penstock.cli.opening import ledger_connector, open_pipeline, open_settings, pipeline_files
from penstock.cli.output import console
from penstock.wording import plural


def take_in(pipeline: OptionalPipeline = None) -> None:
    """Move recorded requests from this machine's spool into the warehouse, as each run does when it begins.

    Servers whose warehouse is a DuckDB file, or cannot be reached, keep what they record in the spool. Requests that
    are in the warehouse already are not added again. Those that the warehouse has refused are tried again.
    """
    from penstock.ledger.served_spool import open_spool, settle_served_runs

    settings = open_settings()
    connect = ledger_connector(settings)
    for name in [pipeline] if pipeline else [str(file) for file in pipeline_files(settings)]:
        spec = open_pipeline(name, settings)
        spool = open_spool(settings.home)
        spool.try_again(spec.name)
        moved = settle_served_runs(connect(spec.destination.connection), settings.home, spec)
        console().print(f"{spec.name}: {plural(moved, 'request')} taken in", markup=False, soft_wrap=True)
        if refused := spool.count_refused(spec.name):
            text = f"{spec.name}: {plural(refused, 'request')} refused by the warehouse and still in the spool"
            console().print(text, style="yellow", markup=False, soft_wrap=True)
