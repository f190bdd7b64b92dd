"""`penstock monitor drift`: all columns of one run against the rows that they are compared with."""

from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.arguments import AsJson, PipelineName
from penstock.cli.opening import open_ledger, open_settings
from penstock.cli.output import console, write_json

if TYPE_CHECKING:
    from penstock.database.connections import Database
    from penstock.ledger.reader import RunRecord


def show_drift(
    pipeline: PipelineName,
    run: Annotated[str | None, typer.Option("--run", metavar="RUN_ID", help="Another run than the newest one.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show how far the features and scores of the newest run are from the rows that they are compared with."""
    from penstock.cli.run_page import print_sections
    from penstock.ledger.drift_answers import answers_about
    from penstock.ledger.profiles import read_profiles
    from penstock.ledger.reader import partitions_of, validations_of
    from penstock.report.blocks import Code, Items, Paragraph, Section, Status
    from penstock.report.drift import column_object, drift_object, list_answers, measure_run, name_baseline, table_of
    from penstock.run.drift import DRIFT
    from penstock.run_types import interval_label

    settings = open_settings()
    database, name = open_ledger(settings, pipeline)
    record = _choose_run(database, name or pipeline, run)
    profiles = read_profiles(database, record.run_id) if record else {}
    drift, answers = measure_run(profiles), answers_about(database, record, profiles) if record else {}
    found = validations_of(database, record.run_id) if record else []
    notes = [f"{each.expectation}: {each.observed}" for each in found if each.stage == DRIFT and not each.evaluated]
    if as_json:
        write_json(
            {
                "run_id": record and record.run_id,
                "compared": [drift_object(each) for each in drift.compared],
                "counted_only": [column_object(each) for each in drift.counted],
                "notes": notes,
                "answers": list(answers.values()),
            }
        )
        return
    if record is None or not (drift.compared or drift.counted):
        console().print("no run has profiles: give the pipeline a `drift:` and run it", markup=False)
        return
    head = (
        f"{record.pipeline} {interval_label(record.interval)}: ",
        Status(record.state),
        ", run ",
        Code(record.run_id),
    )
    sections = [Section(head, [])]
    if drift.baseline:
        table = table_of(drift.compared, partitions_of(database, record.run_id))
        told = list_answers(answers, settings.timezone)
        sections.append(Section(("Drift against ", Code(name_baseline(drift.baseline))), [table, *told]))
    if drift.counted:
        names = ", ".join(each.column for each in drift.counted)
        sections.append(Section(("Counted, and compared with nothing",), [Paragraph((names,))]))
    if notes:
        sections.append(Section(("Notes",), [Items([(note,) for note in notes])]))
    print_sections(sections, None, console())


def _choose_run(database: "Database", pipeline: str, run: str | None) -> "RunRecord | None":
    from penstock.errors import RunNotFound
    from penstock.ledger.migrations import has_ledger
    from penstock.ledger.profiles import newest_profiled
    from penstock.ledger.reader import find_run

    if not has_ledger(database):
        return None
    if run is None:
        return newest_profiled(database, pipeline)
    found = find_run(database, run)
    if found.pipeline != pipeline:
        raise RunNotFound(run)
    return found
