"""`penstock check`: find what would fail in a run."""

from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.arguments import AsJson, End, Start
from penstock.cli.check.report import MARKS, STYLES, CheckReport
from penstock.cli.opening import open_settings, pipeline_files
from penstock.cli.output import console, write_json
from penstock.errors import PipelineNotFound
from penstock.wording import plural

if TYPE_CHECKING:
    from rich.console import Console

    from penstock.settings import Settings


def add_commands(app: typer.Typer) -> None:
    app.command("check", epilog="Example: penstock check card-risk")(check)


def check(
    pipelines: Annotated[
        list[str] | None, typer.Argument(metavar="[PIPELINE]...", help="Names or YAML files. Default: all.")
    ] = None,
    accept: Annotated[
        bool, typer.Option("--accept", help="Accept the present columns of the sources, and the present outputs.")
    ] = False,
    write: Annotated[
        bool, typer.Option("--write", help="Write guesses of text files into the pipeline file. Comments stay.")
    ] = False,
    start: Start = None,
    end: End = None,
    as_json: AsJson = False,
) -> None:
    """Find what would fail in a run: spec, connections, columns, features, expectations, model. Writes no rows.

    Sample rows are those of the newest interval, or of the newest one that --start and --end touch.
    """
    from penstock.cli.check.pipeline import check_pipeline

    settings = open_settings()
    names = pipelines or _all_names(settings)
    found: list[CheckReport] = []
    out = console()
    for name in names:
        report = check_pipeline(name, settings, accept=accept, write=write, start=start, end=end)
        found.append(report)
        if not as_json:
            _print_report(report, out)
    if as_json:
        write_json(found)
    else:
        out.print(f"{plural(len(found), 'pipeline')} checked: {_summarize(found)}")
    raise typer.Exit(max(f.exit_code for f in found))


def _summarize(found: list[CheckReport]) -> str:
    problems, warnings = sum(f.problems for f in found), sum(f.warnings for f in found)
    counts = [plural(number, word) for number, word in ((problems, "problem"), (warnings, "warning")) if number]
    return " and ".join(counts) or "all well"


def _all_names(settings: "Settings") -> list[str]:
    names = [file.stem for file in pipeline_files(settings)]
    if not names:
        raise PipelineNotFound("*", str(settings.pipelines), ())
    return names


def _print_report(report: CheckReport, out: "Console") -> None:
    out.print(report.pipeline, style="bold", markup=False)
    for result in report.results:
        line = f"  {MARKS[result.state]} {result.subject}: {result.what}"
        out.print(line, style=STYLES[result.state], markup=False, soft_wrap=True)
