"""A flow's parameters are its form in the UI: labels and limits stand beside the types, help texts in the docstring."""

from typing import Any

from pydantic import Field


def labelled(text: str, **limits: Any) -> Any:
    """Annotate a parameter with its label and limits.

    Prefect overwrites a field's `title` by the parameter's name, but not one that comes with the schema's extras.
    """
    return Field(json_schema_extra={"title": text}, **limits)
