"""`penstock schema`: the JSON Schema of a pipeline file, for editors."""

import json
from pathlib import Path
from typing import Annotated

import typer


def add_commands(app: typer.Typer) -> None:
    app.command("schema", epilog="Example: penstock schema --output deployments/pipelines/schema.json")(schema)


def schema(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the schema to this file.", dir_okay=False)
    ] = None,
) -> None:
    """Print the JSON Schema of a pipeline file. Editors use it to complete and check specs."""
    text = render_schema()
    if output is None:
        typer.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")


def render_schema() -> str:
    """Return the schema as in the shipped file."""
    from penstock.spec.json_schema import json_schema

    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
