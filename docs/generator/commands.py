"""The page of commands, from the command line's own definitions."""

from collections.abc import Iterator
from typing import Any

import typer.main

_HEAD = """# Commands

Every command has `--help`. Listings print JSON with `--json`. A time without a zone is in the zone of the
pipeline (`interval.timezone`), UTC by default.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | failed |
| 2 | wrong usage, or a wrong pipeline file |
| 3 | a gate halted the run; nothing was published |
"""


def walk_commands() -> Iterator[tuple[str, Any]]:
    """Yield every command by its full name, as in `models list`."""
    from penstock.cli.app import app

    for name, command in sorted(typer.main.get_command(app).commands.items()):  # type: ignore[attr-defined] # a group
        inner = getattr(command, "commands", None)
        if inner:
            yield from ((f"{name} {child}", each) for child, each in inner.items())
        else:
            yield name, command


def render_commands() -> str:
    """Return the page."""
    commands = list(walk_commands())
    rows = [f"| [`penstock {name}`](#{_anchor(name)}) | {_cell(_paragraphs(each)[0])} |" for name, each in commands]
    table = "\n".join(["| command | purpose |", "|---|---|", *rows, ""])
    return "\n".join([_HEAD, table, *(_render_command(name, each) for name, each in commands)])


def _render_command(name: str, command: Any) -> str:
    parameters = [each for each in command.params if not each.hidden]
    options = ["[OPTIONS]"] if any(each.param_type_name == "option" for each in parameters) else []
    arguments = [each.metavar for each in parameters if each.param_type_name == "argument"]
    rows = [_render_parameter(each) for each in parameters]
    table = ["| parameter | meaning | default |", "|---|---|---|", *rows, ""] if rows else []
    example = (command.epilog or "").removeprefix("Example: ").strip()
    return "\n".join(
        [f"## `penstock {name}`", "", *(f"{part}\n" for part in _paragraphs(command))]
        + [f"```text\n{' '.join(['penstock', name, *options, *arguments])}\n```", "", *table]
        + ([f"Example:\n\n```sh\n{example}\n```", ""] if example else [])
    )


def _render_parameter(parameter: Any) -> str:
    label, default = parameter.metavar, None
    if parameter.param_type_name == "option":
        label = ", ".join((*parameter.opts, *parameter.secondary_opts))
        if not parameter.is_flag:
            label += f" {parameter.metavar or parameter.name.upper().replace('_', '-')}"
            default = parameter.default
    shown = "" if default in (None, "", ()) else f"`{default}`"
    return f"| `{_cell(label)}` | {_cell(parameter.help or '')} | {shown} |"


def _paragraphs(command: Any) -> list[str]:
    return [" ".join(part.split()) for part in command.help.split("\n\n")]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _anchor(name: str) -> str:
    return f"penstock-{name.replace(' ', '-')}"
