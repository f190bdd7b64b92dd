"""The flows' parameters, which are the form in the UI. Help texts come from the flow's docstring.

The default of an optional field is an empty text or 0, never null. The UI shows a union with null as a switch between
types. Its validation refuses a plain field whose default is null, and an empty text in a field of format date-time.

The flows do not let Prefect validate the values: `tasks/asked.py` does, after a run has its name.
"""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field, WithJsonSchema

from penstock.interval import MOMENT_EXAMPLES, MOMENT_PATTERN
from penstock.run.planning import Mode
from penstock.spec.steps import CHOICE_PATTERN, MODEL_EXAMPLES, VERSION_EXAMPLE, VERSION_PATTERN

LABELS = {
    "pipeline": "Pipeline",
    "mode": "What to score",
    "start": "Begin of the range",
    "end": "End of the range",
    "model": "Model",
    "partition_rows": "Rows of a partition",
    "dry_run": "Dry run",
    "scored_by": "Scored by",
    "parallel": "Intervals at once",
    "restate": "Restate",
    "ask_again": "Ask again",
}
"""The form's label of each parameter. Messages name a parameter by it."""
MOST_ROWS = 100_000_000
"""Most rows of a partition that a person can ask for."""
MOST_PARALLEL = 64
IN_CODE = WithJsonSchema({"type": "object"})
"""The schema of a parameter that only code sets. Describing a whole pipeline for a form takes a tenth of a second."""


def _label(parameter: str) -> Any:
    """Annotate a parameter with its label.

    Prefect replaces a field's `title` by the parameter's name, but not a title in the schema's extras.
    """
    return Field(json_schema_extra={"title": LABELS[parameter]})


def _text(pattern: str, examples: str) -> WithJsonSchema:
    """Return the schema of an optional text. If it does not match, the form says "'<examples>' was expected".

    Of a failed `pattern` alone the form would show the regular expression.
    """
    matches = {"pattern": rf"^\s*({pattern})?\s*$"}
    return WithJsonSchema({"type": "string", "maxLength": 2000, "if": matches, "else": {"const": examples}})


_MOMENT = _text(MOMENT_PATTERN, MOMENT_EXAMPLES)

PipelineField = Annotated[str, _label("pipeline")]
ModeField = Annotated[Mode, _label("mode")]
StartField = Annotated[datetime | str, _MOMENT, _label("start")]
"""A date or a time, in the pipeline's zone if it has none. May be empty."""
EndField = Annotated[datetime | str, _MOMENT, _label("end")]
ModelField = Annotated[str, _text(CHOICE_PATTERN, MODEL_EXAMPLES), _label("model")]
"""A model, as in `card-risk@champion`, or several by step. May be empty."""
RowsField = Annotated[int, Field(ge=0, le=MOST_ROWS), _label("partition_rows")]
"""Most rows of a partition, or 0 for the pipeline's own limit."""
DryRunField = Annotated[bool, _label("dry_run")]
ScoredByField = Annotated[str, _text(VERSION_PATTERN, VERSION_EXAMPLE), _label("scored_by")]
"""A model version, as in `card-risk/3`. May be empty."""
PromotedModelField = Annotated[str, _label("model")]
"""The name of a model, without alias or version."""
AskAgainField = Annotated[bool, _label("ask_again")]
ParallelField = Annotated[int, Field(ge=1, le=MOST_PARALLEL), _label("parallel")]
RestateField = Annotated[bool, _label("restate")]
