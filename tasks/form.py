"""Types of the flows' parameters, which are the form in the UI. Help texts come from the flow's docstring.

The default of an optional field is an empty text or 0, never null. The UI shows a union with null as a switch between
types. Its validation refuses a plain field whose default is null, and an empty text in a field of format date-time.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from penstock.spec.steps import MODEL_PATTERN, ModelText

_DAY = r"\d{4}-\d\d-\d\d"
_TIME = r"\d\d:\d\d(:\d\d)?(\.\d+)?(Z|[+-]\d\d:?\d\d)?"

Moment = Annotated[datetime | Literal[""], WithJsonSchema({"type": "string", "pattern": rf"^({_DAY}([T ]{_TIME})?)?$"})]
"""A date or an ISO time, in UTC if it has no zone. May be empty."""
ModelChoice = Annotated[
    ModelText | Literal[""], WithJsonSchema({"type": "string", "pattern": f"^$|{MODEL_PATTERN}", "maxLength": 2000})
]
"""A model reference, as in `card-risk@champion`. May be empty."""
PartitionRows = Annotated[int, Field(ge=0, le=100_000_000)]
"""Most rows of a partition, or 0 for the pipeline's own limit."""


def labelled(text: str) -> Any:
    """Annotate a parameter with its label.

    Prefect replaces a field's `title` by the parameter's name, but not a title in the schema's extras.
    """
    return Field(json_schema_extra={"title": text})
