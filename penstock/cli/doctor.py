"""`penstock doctor`: look for known problems, and print a remedy for each."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from penstock.cli.arguments import AsJson
from penstock.cli.opening import open_settings
from penstock.cli.output import console, error_console, write_json
from penstock.errors import SettingsError
from penstock.wording import plural

if TYPE_CHECKING:
    from penstock.deployments.doctor.finding import Finding, Section
    from penstock.settings import Settings

MARKS = {"ok": "✓", "warning": "!", "broken": "✗", "not checked": "–"}
STYLES = {"ok": "green", "warning": "yellow", "broken": "bold red", "not checked": "dim"}


def add_commands(app: typer.Typer) -> None:
    app.command("doctor", epilog="Example: penstock doctor --json")(doctor)


def doctor(as_json: AsJson = False) -> None:
    """Look for known problems on this machine, in its databases and on the Prefect server.

    Changes nothing. The exit code is 1 when something is broken.
    """
    environment = dict(os.environ)
    settings, error = _read_settings()
    with _found_server(settings) as api_url, error_console().status("reading the pipelines") as status:
        from penstock.deployments.doctor.checkup import examine
        from penstock.deployments.doctor.context import CheckContext, read_specs

        pipelines, spec_errors = read_specs(settings)
        case = CheckContext(
            settings=settings,
            environment=environment,
            now=datetime.now(UTC),
            settings_error=error,
            pipelines=pipelines,
            spec_errors=spec_errors,
            api_url=api_url,
        )
        sections = examine(case, status.update)
    if as_json:
        write_json([_as_object(section, finding) for section in sections for finding in section.findings])
    else:
        _print_sections(sections)
    raise typer.Exit(1 if any(f.state == "broken" for s in sections for f in s.findings) else 0)


def _read_settings() -> "tuple[Settings, SettingsError | None]":
    """Return the settings. If they cannot be read, return the defaults and the error."""
    from penstock.settings import Settings

    try:
        return open_settings(), None
    except SettingsError as error:
        return Settings.model_construct(), error


@contextmanager
def _found_server(settings: "Settings") -> Iterator[str | None]:
    """Give the address of the server that `penstock deploy` would use. No server is started."""
    from penstock.cli.prefect_api import prefect_api
    from penstock.deployments.server.local import running_server
    from penstock.settings import prefect_api_url

    own = None if prefect_api_url() else running_server(settings.home)
    if prefect_api_url() is None and (own is None or not own.full):  # a server of `penstock run` ends with that run
        yield None
        return
    with prefect_api(settings) as api_url:
        yield api_url


def _as_object(section: "Section", finding: "Finding") -> dict[str, str]:
    return {
        "group": section.title,
        "subject": finding.subject,
        "state": finding.state,
        "what": finding.what,
        "remedy": finding.remedy,
    }


def _print_sections(sections: "Sequence[Section]") -> None:
    from rich.table import Table
    from rich.text import Text

    out = console()
    width = min(max(len(f.subject) for s in sections for f in s.findings), 24)
    for section in sections:
        out.print(section.title, style="bold")
        table = Table.grid(padding=(0, 1, 0, 0))
        table.add_column(width=3, justify="right")
        table.add_column(width=width, overflow="fold")
        table.add_column(overflow="fold")
        # Broken findings come last, so that they stay visible at the end of a long list.
        for finding in sorted(section.findings, key=lambda f: f.state == "broken"):
            style = STYLES[finding.state]
            text = Text(finding.what, style="" if finding.state == "ok" else style)
            if finding.remedy:
                text.append(f"\n→ {finding.remedy}", style="default")
            mark = Text(MARKS[finding.state], style=style)
            table.add_row(mark, Text(finding.subject), text)
        out.print(table)
        out.print()
    out.print(_summarise(sections))


def _summarise(sections: "Sequence[Section]") -> str:
    states = [finding.state for section in sections for finding in section.findings]
    counts = [f"{states.count(state)} {word}" for state, word in _WORDS.items() if state in states]
    return f"{plural(len(states), 'finding')}: {', '.join(counts)}"


_WORDS = {"ok": "ok", "not checked": "not checked", "warning": "to look at", "broken": "broken"}
