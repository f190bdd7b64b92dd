"""Show what the demo did, read back from the ledger, the live view and the shop."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from penstock.cli.demo.context import DemoContext
from penstock.cli.output import count, make_table, program_name, seconds, short

if TYPE_CHECKING:
    from penstock.interval import DataInterval
    from penstock.ledger.reader import RunRecord


def show_runs(stage: DemoContext, records: "Sequence[RunRecord]") -> None:
    from penstock.run_types import interval_label

    figures = ("extracted", "scored", "quarantined", "excluded", "seconds")
    table = make_table("run", "interval", "state", *figures, right=figures)
    for run in records:
        table.add_row(
            short(run.run_id),
            interval_label(run.interval),
            f"[{'green' if run.state == 'published' else 'red'}]{run.state}[/]",
            *(count(n) for n in (run.rows_extracted, run.rows_published, run.rows_quarantined, run.rows_excluded)),
            seconds(run.seconds),
        )
    stage.console.print(table)


def show_quarantine(stage: DemoContext, records: "Sequence[RunRecord]") -> None:
    """Show the reasons of refused rows, with one row for each reason."""
    from collections import Counter

    from penstock.ledger.quarantine import quarantined_rows

    warehouse = stage.connect(stage.pipeline.destination.connection)
    refused = [
        row
        for run in records
        for row in quarantined_rows(warehouse, run_id=run.run_id, limit=run.rows_quarantined or 1)
    ]
    reasons = Counter((row.stage, ", ".join(row.reasons)) for row in refused)
    first = {(row.stage, ", ".join(row.reasons)): row.key for row in reversed(refused)}
    table = make_table("quarantined", "refused by", "reason", "such as", right=("quarantined",))
    for (where, reason), rows in reasons.most_common():
        table.add_row(f"{rows:,}", where, escape(reason), escape(first[where, reason]))
    stage.console.print(table)


def mean_amount(stage: DemoContext, day: "DataInterval") -> float:
    import sqlalchemy as sa

    from penstock.cli.demo.shop import payments

    query = sa.select(sa.func.avg(payments.c.amount)).where(
        payments.c.created_at >= day.start, payments.c.created_at < day.end
    )
    with stage.connect("shop").reading() as connection:
        return float(connection.execute(query).scalar_one())


def digest_view(stage: DemoContext) -> tuple[int, str]:
    """Return the number of rows that readers see, and a SHA-256 of all their values."""
    import hashlib

    import sqlalchemy as sa

    destination, key = stage.pipeline.destination, stage.pipeline.key
    query = sa.select(sa.text("*")).select_from(sa.table(destination.table)).order_by(*(sa.column(c) for c in key))
    digest, rows = hashlib.sha256(), 0
    with stage.connect(destination.connection).reading() as connection:
        for row in connection.execute(query):
            digest.update(repr(tuple(row)).encode())
            rows += 1
    return rows, digest.hexdigest()


def show_end(stage: DemoContext, shown: Path) -> None:
    """Show the run history, ten scores, and commands to continue with."""
    import sqlalchemy as sa

    from penstock.ledger.reader import list_runs

    pipeline = stage.pipeline
    warehouse = stage.connect(pipeline.destination.connection)
    stage.title("The run history")
    records = list_runs(warehouse, pipeline.name)
    show_runs(stage, records)
    names = ("payment_id", "score", "amount_eur", "country", "interval_start", "model_name", "model_version", "run_id")
    live = sa.table(pipeline.destination.table, *(sa.column(name) for name in names))
    stage.title(f"The ten highest scores in `{live.name}`")
    table = make_table(
        "payment", "score", "EUR", "country", "interval", "model", "run", right=("payment", "score", "EUR")
    )
    with warehouse.reading() as connection:
        for row in connection.execute(sa.select(live).order_by(live.c.score.desc(), live.c.payment_id).limit(10)):
            table.add_row(
                str(row.payment_id),
                f"{row.score:.4f}",
                f"{row.amount_eur:,.2f}",
                row.country,
                str(row.interval_start)[:10],
                f"{row.model_name}/{row.model_version}",
                short(row.run_id),
            )
    stage.console.print(table)
    halted = next((run for run in records if run.state == "halted"), records[0])
    show_commands(stage, shown, halted.run_id)


def show_commands(stage: DemoContext, shown: Path, run_id: str) -> None:
    """Show commands to continue with, one of them for a run."""
    stage.title("What to try next")
    for line in (f"cd {shown}", *_commands(short(run_id))):
        stage.console.print(f"  {line}", markup=False, soft_wrap=True)


def _commands(run_id: str) -> list[str]:
    """Return command lines to continue with."""
    program = program_name()
    return [
        f"{program} runs",
        f"{program} show {run_id}",
        f"{program} quarantine list",
        f"{program} up    # Prefect's server and UI, with the history of these runs",
    ]
