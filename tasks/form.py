"""A flow's parameters are its form in the UI: labels and limits stand beside the types, help texts in the docstring.

What may be left empty is empty text or 0, never null: a union with null is drawn as a switch between types, and a plain
field whose default is null is refused by the UI's own check, as is empty text in a field of format date-time.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from penstock.spec.steps import MODEL_PATTERN, ModelText

_DAY = r"\d{4}-\d\d-\d\d"
_TIME = r"\d\d:\d\d(:\d\d)?(\.\d+)?(Z|[+-]\d\d:?\d\d)?"

Moment = Annotated[datetime | Literal[""], WithJsonSchema({"type": "string", "pattern": rf"^({_DAY}([T ]{_TIME})?)?$"})]
"""A date or an ISO time; without a zone it is UTC; may be left empty."""
ModelChoice = Annotated[
    ModelText | Literal[""], WithJsonSchema({"type": "string", "pattern": f"^$|{MODEL_PATTERN}", "maxLength": 2000})
]
"""A model as people write it; may be left empty."""
PartitionRows = Annotated[int, Field(ge=0, le=100_000_000)]
"""Rows of a partition; 0 for the pipeline's own."""


def labelled(text: str) -> Any:
    """Annotate a parameter with its label.

    Prefect overwrites a field's `title` by the parameter's name, but not one that comes with the schema's extras.
    """
    return Field(json_schema_extra={"title": text})
