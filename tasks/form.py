"""A flow's parameters are its form in the UI: labels and limits stand beside the types, help texts in the docstring.

What may be left empty is `… | None` for the flow, and plain for the form: a union is drawn as a switch between its
members, where people look for a field. An empty field is sent as nothing, or as null, and Prefect allows null where the
default is null.
"""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field, WithJsonSchema

from penstock.spec import MODEL_PATTERN, ModelText

MAX_PARTITION_ROWS = 100_000_000

OptionalMoment = Annotated[datetime | None, WithJsonSchema({"type": "string", "format": "date-time"})]
OptionalModel = Annotated[ModelText | None, WithJsonSchema({"type": "string", "pattern": MODEL_PATTERN})]
OptionalRows = Annotated[
    Annotated[int, Field(ge=1, le=MAX_PARTITION_ROWS)] | None,
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MAX_PARTITION_ROWS}),
]


def labelled(text: str) -> Any:
    """Annotate a parameter with its label.

    Prefect overwrites a field's `title` by the parameter's name, but not one that comes with the schema's extras.
    """
    return Field(json_schema_extra={"title": text})
