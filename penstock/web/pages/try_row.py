"""Try a row: a form of the columns that a pipeline reads, its score and the reasons. Nothing is stored."""

import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
from starlette.requests import Request
from starlette.responses import Response

from penstock.errors import PenstockError, RequestError
from penstock.serving.bodies import read_rows
from penstock.serving.scored_request import ScoredRequest
from penstock.serving.scorer import Scorer
from penstock.serving.served_pipeline import ServedPipeline, refuse_unservable
from penstock.serving.top_reasons import find_top_reasons
from penstock.spec.pipeline import Pipeline
from penstock.web.context import WebContext
from penstock.web.pages.answers import PageError, show

LONGEST_VALUE = 10_000
Kind = Literal["whole number", "number", "decimal", "true or false", "text"]
FIELD = "column."
"""Before a column's name in the form, so that no column is taken for another field."""


@dataclass(frozen=True)
class Field:
    """One column of the row, as the form asks for it."""

    name: str
    kind: Kind
    value: str
    choices: tuple[str, ...]
    """The categories that the model was trained on. Empty: any value."""


@dataclass(frozen=True)
class ShownReason:
    """A feature that moves the score."""

    text: str
    value: str
    contribution: float
    share: float
    """Of the longest bar, from -1 to 1."""


@dataclass(frozen=True)
class Tried:
    """What became of the row."""

    outputs: tuple[tuple[str, Any], ...] = ()
    """Empty: the row has no score."""
    refused: tuple[str, ...] = ()
    """Why it has none."""
    reasons: tuple[ShownReason, ...] = ()


def ask_row(context: WebContext, request: Request) -> Response:
    """Show the form, empty but for the key."""
    return _show(context, request, {}, None)


def try_row(context: WebContext, request: Request, form: Mapping[str, str]) -> Response:
    """Score the row of the form as a request of one row, and show the form again."""
    return _show(context, request, form, form)


def _show(context: WebContext, request: Request, typed: Mapping[str, str], form: Mapping[str, str] | None) -> Response:
    served = _serve(context, request.path_params["name"])
    scorer = served.ready
    fields = _make_fields(scorer, typed)
    tried = _try(served.pipeline, scorer, fields) if form is not None else None
    facts = {"name": served.name, "fields": fields, "tried": tried, "prefix": FIELD, "longest": LONGEST_VALUE}
    return show(context, request, "try.html", facts | {"models": scorer.pins.values()})


def _serve(context: WebContext, name: str) -> ServedPipeline:
    """Return the pipeline with the models that its aliases name now. They stay open for the next try.

    Raises:
        ServeRefused: a row alone cannot be scored.
        DatabaseLocked: another process has a file open.
        PageError: its models cannot be opened.
    """
    pipeline = context.load(name)
    refuse_unservable(pipeline)
    served = context.serve(pipeline)
    if served.scorer is None:
        raise PageError(409, "This pipeline cannot be tried", served.problem or served.snapshot_problem)
    return served


def _make_fields(scorer: Scorer, typed: Mapping[str, str]) -> list[Field]:
    pipeline, columns = scorer.pipeline, scorer.columns[scorer.pipeline.primary]
    features = [feature for model in scorer.models.values() for feature in model.manifest.features]
    categories = {feature.name: feature.categories for feature in features}
    fields = []
    for name, kind in columns.types.items():
        start = "1" if name in pipeline.key else ""
        value = typed.get(f"{FIELD}{name}", start)[:LONGEST_VALUE]
        fields.append(Field(name, _name_kind(kind), value, categories.get(name, ())))
    return fields


def _name_kind(kind: pa.DataType) -> Kind:
    if pa.types.is_integer(kind):
        return "whole number"
    if pa.types.is_decimal(kind):
        return "decimal"
    if pa.types.is_floating(kind):
        return "number"
    return "true or false" if pa.types.is_boolean(kind) else "text"


def _try(pipeline: Pipeline, scorer: Scorer, fields: list[Field]) -> Tried:
    row = {field.name: _read(field) for field in fields}
    try:
        request = read_rows(scorer, {"rows": [row]}, uuid.uuid4().hex, 1)
    except RequestError as error:  # a value of another type
        return Tried(refused=(error.what,))
    [scored] = scorer.score_together([request])
    if isinstance(scored, PenstockError):
        return Tried(refused=(str(scored),))
    if isinstance(scored, Exception):
        raise scored
    [outcome] = scored.outcomes
    if outcome.place is None:
        return Tried(refused=outcome.reasons)
    [outputs] = scored.outputs.to_pylist()
    return Tried(tuple(outputs.items()), (), _explain(pipeline, scorer, scored))


def _explain(pipeline: Pipeline, scorer: Scorer, scored: ScoredRequest) -> tuple[ShownReason, ...]:
    [found] = find_top_reasons(pipeline, scored, scorer.options.masking)
    known = [each for each in found if each["contribution"] is not None]
    longest = max((abs(each["contribution"]) for each in known), default=0.0) or 1.0
    return tuple(
        ShownReason(each["text"], each["value"] or "NULL", each["contribution"], each["contribution"] / longest)
        for each in known
    )


def _read(field: Field) -> Any:
    """Read what was typed as a JSON value. Nothing is NULL, and what is no number stays text, which is refused.

    A decimal stays text, which keeps its digits.
    """
    text = field.value if field.kind == "text" else field.value.strip()
    if not text:
        return None
    if field.kind == "true or false":
        return {"true": True, "false": False}.get(text, text)
    if "_" in text:  # `1_000` is a number in Python alone
        return text
    try:
        if field.kind == "whole number":
            return int(text)
        if field.kind == "number":
            number = float(text)
            return number if math.isfinite(number) else text
    except ValueError:
        pass
    return text
