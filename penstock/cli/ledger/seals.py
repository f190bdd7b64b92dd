"""`penstock ledger check-seals` and `seals`: check the seals of rows, and export the roots of runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.arguments import AsJson, OptionalPipeline
from penstock.cli.opening import (
    connector,
    ledger_connector,
    locate_run,
    open_pipeline,
    open_settings,
    pipelines_by_warehouse,
)
from penstock.cli.output import console, error_console, make_table, write_json
from penstock.errors import PipelineNotFound
from penstock.wording import plural

if TYPE_CHECKING:
    from penstock.settings import Settings
    from penstock.spec.pipeline import Pipeline
    from penstock.upkeep.check_seals import SealCheck, SealFinding, SealReport, UnsealedRun
    from penstock.upkeep.exported_roots import SealedRun

TEXTS = {
    "altered": "{rows} altered",
    "added": "{rows} added, which the run has not scored",
    "removed": "{rows} removed",
    "restored": "{rows} there again that had been forgotten",
    "seals changed": "its seals in the ledger were changed",
    "erasure forged": "{rows} recorded as forgotten, but not by `penstock forget`",
    "not sealed": "{rows} without seals, and an older run has them",
    "key not set": "{rows} sealed under the key {key_ids}, which is not set",
    "run unknown": "{rows} of a run that the ledger does not have",
    "run unreadable": "what the ledger has of it cannot be read, so its rows were not checked",
    "rows gone": "the table of its rows is gone",
    "other form": "its form is not that of a history table, so its rows were not checked",
    "other root": "its root is another one than in the file",
    "run gone": "it is in the file, and not in the ledger",
    "pipeline gone": "it is in the file, and no pipeline here has it",
}


def check_seals(
    what: Annotated[
        str | None, typer.Argument(metavar="[PIPELINE|RUN_ID]", help="A pipeline, or a run. Default: all pipelines.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            "--against", exists=True, dir_okay=False, metavar="FILE", help="What `penstock ledger seals --json` wrote."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find rows that were altered, removed or added since they were scored. Change nothing.

    Needs PENSTOCK_SEAL_KEY. The exit code is 1 if something does not fit the seals.
    """
    from penstock.upkeep.exported_roots import describe_exported

    settings = open_settings()
    reports = [(spec, report) for spec, report in _check(settings, what)]
    findings = [(spec.name, finding) for spec, report in reports for finding in report.findings]
    beyond = 0
    if against is not None:
        unlike, left = _compare(settings, [spec for spec, _ in reports], against)
        findings += unlike
        if what is None:
            findings += [(run.pipeline, describe_exported(run, "pipeline gone")) for run in left]
        else:
            beyond = len(left)
    if as_json:
        write_json(
            {
                "pipelines": [{"pipeline": spec.name, **_as_json(report)} for spec, report in reports],
                "findings": [{"pipeline": name, **asdict(finding)} for name, finding in findings],
                "not_compared": beyond,
            }
        )
    else:
        _print(reports, findings)
        if beyond:
            told = f"{plural(beyond, 'run')} of other pipelines in the file not compared"
            console().print(told, markup=False, soft_wrap=True)
    if findings:
        raise typer.Exit(1)


def list_seals(pipeline: OptionalPipeline = None, as_json: AsJson = False) -> None:
    """List the roots of sealed runs, the oldest first. Keep a copy where holders of the warehouse cannot write."""
    from penstock.upkeep.exported_roots import read_sealed_runs

    settings = open_settings()
    found = [
        each for spec in _chosen(settings, pipeline) for each in read_sealed_runs(_warehouse(settings, spec), spec.name)
    ]
    if as_json:
        write_json(found)
    elif not found:
        console().print("no run is sealed")
    else:
        table = make_table("pipeline", "interval", "run", "state", "rows", "root", right=("rows",))
        for each in found:
            rows = "" if each.rows is None else f"{each.rows:,}"
            table.add_row(each.pipeline, each.interval_key, each.run_id[:8], each.state, rows, each.root)
        console().print(table)


def _check(settings: "Settings", what: str | None) -> "Iterator[tuple[Pipeline, SealReport]]":
    prefix = ""
    try:
        chosen = _chosen(settings, what)
    except PipelineNotFound:
        assert what is not None  # all pipelines are in the folder
        record = locate_run(settings, what)[1]
        chosen, prefix = [open_pipeline(record.pipeline, settings)], record.run_id
    for spec in chosen:
        with _open_check(settings, spec) as check:
            yield spec, check.check(prefix)


@contextmanager
def _open_check(settings: "Settings", spec: "Pipeline") -> "Iterator[SealCheck]":
    from penstock.privacy.masking import make_masking
    from penstock.seals.keys import read_seal_keys
    from penstock.upkeep.check_seals import SealCheck
    from penstock.upkeep.lost_keys import list_candidates

    keys = read_seal_keys(settings, f"the seals of `{spec.name}` are to be checked")
    warehouse, masking = _warehouse(settings, spec), make_masking(spec, settings)
    with TemporaryDirectory(prefix="penstock-") as folder:
        connect = replace(connector(settings), run_folder=Path(folder))
        candidates = partial(list_candidates, warehouse, spec, connect, masking)
        yield SealCheck(warehouse, spec, keys, masking, candidates)


def _chosen(settings: "Settings", name: str | None) -> "list[Pipeline]":
    """Return one pipeline, or all that have a warehouse with a ledger."""
    if name is not None:
        return [open_pipeline(name, settings)]
    names = [each for pipelines in pipelines_by_warehouse(settings).values() for each in pipelines]
    return [open_pipeline(each, settings) for each in names]


def _warehouse(settings: "Settings", spec: "Pipeline") -> Any:
    return ledger_connector(settings)(spec.destination.connection)


def _compare(
    settings: "Settings", specs: "list[Pipeline]", file: Path
) -> "tuple[list[tuple[str, SealFinding]], list[SealedRun]]":
    """Return what is unlike in the file, and its runs that are of none of the pipelines."""
    from penstock.upkeep.exported_roots import compare_roots, find_exported, read_export

    exported, unlike = read_export(file), []
    left = {run.run_id: run for run in exported}
    for spec in specs:
        mine = list(find_exported(_warehouse(settings, spec), spec.name, exported))
        unlike += [(spec.name, finding) for finding in compare_roots(mine)]
        for run, _ in mine:
            left.pop(run.run_id, None)
    return unlike, list(left.values())


def _as_json(report: "SealReport") -> dict[str, Any]:
    return {name: value for name, value in asdict(report).items() if name != "findings"}


def _print(reports: "list[tuple[Pipeline, SealReport]]", findings: "list[tuple[str, SealFinding]]") -> None:
    from penstock.upkeep.sealed_rows import SHOWN

    out, screen = console(), error_console()
    for spec, report in reports:
        out.print(f"{spec.name}: {_describe(report)}", markup=False, soft_wrap=True)
        if spec.seal or report.runs:
            for run in report.older[:SHOWN]:
                out.print(f"  run {_name(run)}", markup=False, soft_wrap=True)
            if len(report.older) > SHOWN:
                out.print(f"  and {plural(len(report.older) - SHOWN, 'other run')}", markup=False)
    for name, each in findings:
        where = f"{name}:" + (f" run {_name(each)}" if each.run_id else "")
        where += f" in {each.table}" if each.table else ""
        where += "" if each.partition is None else f", partition {each.partition + 1}"
        about = TEXTS[each.fault].format(rows=plural(each.rows, "row"), key_ids=" and ".join(each.key_ids))
        screen.print(f"{where}: {about}", style="red", markup=False, soft_wrap=True)
        for key in each.keys:
            screen.print(f"  {key}", markup=False, soft_wrap=True)
        if each.rows > len(each.keys) > 0:
            screen.print(f"  and {plural(each.rows - len(each.keys), 'other row')}", markup=False)
    if any(each.fault == "key not set" for _, each in findings):
        remedy = "Set PENSTOCK_SEAL_KEY_OLD to the key that is not set, and check these runs again"
        screen.print(remedy, markup=False, soft_wrap=True)
    if any(each.fault != "key not set" for _, each in findings):
        screen.print("Restate these intervals, or restore a backup; nothing was changed", markup=False)
    if findings:
        return
    if any(report.runs for _, report in reports):
        out.print("every seal holds", style="green")
    else:
        out.print("no sealed rows were checked")


def _name(run: "SealFinding | UnsealedRun") -> str:
    variant = "" if run.variant == "live" else run.variant
    return " ".join(filter(None, (run.run_id[:8], run.interval_key, variant)))


def _describe(report: "SealReport") -> str:
    beyond = [
        plural(report.erased, "forgotten row") if report.erased else "",
        plural(report.pruned, "pruned run") if report.pruned else "",
        f"{plural(len(report.older), 'run')} without seals, from before the first one" if report.older else "",
    ]
    checked = f"{plural(report.runs, 'sealed run')} with {plural(report.rows, 'row')} checked"
    return ", ".join([checked, *filter(None, beyond)])
