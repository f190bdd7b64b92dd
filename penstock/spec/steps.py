"""The models of a pipeline: how a model is named, the steps of inference, and their order.

The outputs of a step are columns `<step>_<output>`: `screen_score`, `screen_score_<class>`, `screen_predicted_class`.
So the name of a column identifies its step before any model is loaded.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    WithJsonSchema,
    field_validator,
    model_serializer,
    model_validator,
)

from penstock.errors import SettingsError, nearest
from penstock.spec.expression import read_expression
from penstock.spec.parts import Column, Part

_ONE_MODEL = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}@[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
_STEP_NAME = r"[a-z][a-z0-9_]{0,23}"
_ONE_STEP = rf"{_STEP_NAME} *= *{_ONE_MODEL}"
CHOICE_PATTERN = rf"{_ONE_MODEL}|{_ONE_STEP}( *, *{_ONE_STEP})*"
"""Models as people choose them for a run: `card-risk@champion`, or by step `screen=screen@2, deep=deep@3`."""
_ONE_CHALLENGER = rf"{_ONE_MODEL} *= *({_ONE_MODEL}|none)"
CHALLENGERS_PATTERN = rf"{_ONE_CHALLENGER}( *, *{_ONE_CHALLENGER})*"
"""Versions of challengers as a backfill fixes them for its runs: `card-risk@challenger=card-risk@4`, or `=none`."""
CHALLENGERS_EXAMPLE = "name@alias=name@version, as in card-risk@challenger=card-risk@4"
MODEL_EXAMPLES = "name@alias or name@version, as in card-risk@champion"
VERSION_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}/[1-9][0-9]{0,8}"
VERSION_EXAMPLE = "name/version, as in card-risk/3"
_NAMELESS = frozenset(
    {"pivot", "pivot_wider", "unpivot", "columns", "unnest", "describe", "summarize", "show", "table"}
)
"""Words of a query whose columns need not stand in it."""
SCORE = "score"
"""If `decide:` makes a column of this name, it is the run's main score."""
OUTPUT = r"score|score_.+|predicted_class"
"""The names of a model's outputs."""
TIMED = frozenset({"extract", "validate", "load", "decide"})
"""The other steps of a partition, whose seconds stand beside those of the models' steps."""


class ModelRef(Part):
    """A model by alias or version: `card-risk@champion`, `card-risk@7`."""

    name: str
    selector: str

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, data: Any) -> Any:
        if not isinstance(data, str):
            return data
        if not re.fullmatch(_ONE_MODEL, data):
            raise ValueError(f"`{data}` is not a model; write name@alias or name@version, as in `card-risk@champion`")
        name, _, selector = data.partition("@")
        return {"name": name, "selector": selector}

    @model_serializer
    def _as_text(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return f"{self.name}@{self.selector}"


def _check_expression(text: str) -> str:
    read_expression(text)
    return text


SqlExpression = Annotated[str, Field(min_length=1, max_length=10_000), AfterValidator(_check_expression)]
"""One DuckDB expression over the columns of one row."""


def _read_inputs(value: Any) -> Any:
    return {column: column for column in value} if isinstance(value, list | tuple) else value


_COLUMN_SCHEMA = {"type": "string", "minLength": 1, "maxLength": 63}
Inputs = Annotated[
    dict[Column, Column],
    BeforeValidator(_read_inputs),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "items": _COLUMN_SCHEMA},
                {"type": "object", "additionalProperties": _COLUMN_SCHEMA},
            ]
        }
    ),
]
StepName = Annotated[str, Field(pattern=rf"^{_STEP_NAME}$")]


class ScoreStep(Part):
    """One step of inference: a model that reads the features and the outputs of earlier steps."""

    name: StepName = Field(examples=["screen"])
    """Name of the step. Its outputs are columns `<name>_<output>`, as in `screen_score`."""
    model: ModelRef = Field(examples=["risk-screen@champion"])
    """Model of the step, as name@alias or name@version."""
    inputs: Inputs = Field(default_factory=dict, examples=[["screen_score"], {"first_opinion": "screen_score"}])
    """Columns of earlier steps that the model reads: a list, or a mapping from the model's feature to the column.
    The model reads all other features by their own name."""
    when: SqlExpression | None = Field(default=None, examples=["screen_score > 0.5 and items > 1"])
    """Score only rows for which this condition is true. Other rows get NULL. Without it the step scores all rows."""

    @field_validator("name")
    @classmethod
    def _name_is_free(cls, value: str) -> str:
        if value in TIMED:
            raise ValueError(f"a step cannot be named `{value}`; that is a step of every partition")
        return value

    @property
    def reads(self) -> frozenset[str]:
        """The columns that `inputs` and `when` name, in lower case."""
        return frozenset(c.casefold() for c in self.inputs.values()) | (
            read_expression(self.when) if self.when else frozenset()
        )


class Challenger(Part):
    """A model that scores the same rows beside the pipeline's own. Readers never see its scores."""

    model: ModelRef = Field(examples=["card-risk@challenger"])
    """The model, as name@alias or name@version. It must take the same features and give the same outputs."""
    share: float = Field(default=1.0, gt=0, le=1, examples=[0.1])
    """Share of the rows that it scores. The key of a row decides, so that each run chooses the same keys."""


def choose_models(steps: Sequence[ScoreStep], choice: str = "") -> dict[str, ModelRef]:
    """Return each step's model, in the order of the steps: the spec's own, or what is chosen for a run instead.

    Args:
        choice: `name@version` where there is one step, else `step=name@version`, several with commas; empty for none.

    Raises:
        SettingsError: it is not written so, names no step, or names a step twice.
    """
    models, named = {step.name: step.model for step in steps}, set[str]()
    for part in filter(None, (part.strip() for part in choice.split(","))):
        name, equals, text = (piece.strip() for piece in part.rpartition("="))
        if not equals and len(models) == 1:
            name = next(iter(models))
        chosen = parse_model(text)
        if not equals and len(models) > 1:
            remedy = f"Write step=name@version, as in `{next(reversed(models))}={text}`."
            raise SettingsError(f"`{text}` is chosen for no step, and the pipeline has {len(models)}", remedy)
        if name not in models:
            known = nearest(name, tuple(models)).strip()
            raise SettingsError(f"`{part}` is chosen for a step that is not there", known)
        if name in named:
            raise SettingsError(f"the models of step `{name}` are chosen twice", "Choose one model for a step.")
        named.add(name)
        models[name] = chosen
    return models


def write_choice(versions: Mapping[str, str]) -> str:
    """Write `name@version` by step as one choice of models, as `choose_models` reads it."""
    return ",".join(f"{step}={version}" for step, version in versions.items())


def choose_challengers(challengers: Sequence[Challenger], choice: str = "") -> dict[Challenger, ModelRef | None]:
    """Return the model of each challenger: the spec's own, or what is chosen instead. None: it is left out.

    Args:
        choice: `name@alias=name@version`, several with commas, or `name@alias=none`; empty for none. Names that the
            spec does not have are passed over, because it may have changed since a backfill began.

    Raises:
        SettingsError: it is not written so.
    """
    if choice and not re.fullmatch(CHALLENGERS_PATTERN, choice):
        raise SettingsError(f"`{choice[:60]}` chooses no challengers", f"Write {CHALLENGERS_EXAMPLE}.")
    pairs = (part.partition("=") for part in choice.split(",") if part)
    chosen = {name.strip(): version.strip() for name, _, version in pairs}
    versions = {each: chosen.get(str(each.model), str(each.model)) for each in challengers}
    return {each: None if version == "none" else parse_model(version) for each, version in versions.items()}


def write_challengers(versions: Mapping[str, str | None]) -> str:
    """Write the version of each challenger, or None, as one choice that `choose_challengers` reads."""
    return ",".join(f"{name}={version or 'none'}" for name, version in versions.items())


def parse_model(text: str) -> ModelRef:
    """Read `name@alias` or `name@version`.

    Raises:
        SettingsError: it is not written so.
    """
    if not re.fullmatch(_ONE_MODEL, text):
        raise SettingsError(f"`{text[:60]}` is no model", f"Write {MODEL_EXAMPLES}.")
    return ModelRef.model_validate(text)


def read_version(text: str) -> str:
    """Check the name of a version that scored runs, `name/version`. Empty stays empty.

    Raises:
        SettingsError: it is no such name.
    """
    if text and not re.fullmatch(VERSION_PATTERN, text):
        raise SettingsError(f"`{text[:60]}` is no version of a model", f"Write {VERSION_EXAMPLE}.")
    return text


def find_step(column: str, steps: Iterable[str]) -> str | None:
    """Return which of the steps gives a column. None for a feature."""
    giving = [s for s in steps if re.fullmatch(rf"{s}_(?:{OUTPUT})", column.casefold())]
    return max(giving, key=len, default=None)


def is_output(column: str, steps: Sequence[str]) -> bool:
    """Whether a model gives the column: one of the steps, or the only one where they have no names."""
    if not steps:
        return re.fullmatch(OUTPUT, column.casefold()) is not None
    return find_step(column, steps) is not None


def is_named_output(column: str, steps: Sequence[str]) -> bool:
    """Whether a column is an output, spelled as it is stored. The class at its end may have capitals."""
    return any(re.fullmatch(f"{prefix}(?:{OUTPUT})", column) for prefix in [f"{step}_" for step in steps] or [""])


def order_steps(steps: Sequence[ScoreStep]) -> tuple[ScoreStep, ...]:
    """Return the steps in the order that they run: each after those whose outputs it uses, otherwise as written.

    Raises:
        ValueError: two steps have one name, or some wait for each other.
    """
    names = [step.name for step in steps]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ValueError(f"two steps are named `{twice}`; their outputs would be the same columns")
    waits = {step.name: {find_step(c, names) for c in step.reads} - {None} for step in steps}
    ordered: list[ScoreStep] = []
    left = list(steps)
    while left:
        done = {step.name for step in ordered}
        ready = next((step for step in left if waits[step.name] <= done), None)
        if ready is None:
            raise ValueError(_describe_cycle(left[0].name, waits, done))
        ordered.append(ready)
        left.remove(ready)
    return tuple(ordered)


def _describe_cycle(name: str, waits: Mapping[str, set[str | None]], done: set[str]) -> str:
    path: list[str] = []
    while name not in path:
        path.append(name)
        name = sorted(s for s in waits[name] if s is not None and s not in done)[0]
    circle = " → ".join(f"`{step}`" for step in (*path[path.index(name) :], name))
    return f"these steps wait for each other's outputs: {circle}"


def check_decisions(decide: Mapping[str, str], steps: Sequence[ScoreStep], features: str | None) -> None:
    """Refuse a decision that uses a column which does not exist yet.

    Raises:
        ValueError: names the column.
    """
    names, before = [step.name for step in steps], list[str]()
    left = [column.casefold() for column in decide]
    for column, expression in decide.items():
        if is_output(column, names):
            raise ValueError(f"`{column}` is an output of a model; give the decision another name")
        if left.pop(0) in before:
            raise ValueError(f"`{column}` is decided twice")
        needed = read_expression(expression)
        if early := sorted(needed & {column.casefold(), *left}):
            raise ValueError(f"`{column}` takes `{early[0]}`, which is not decided before it; change the order")
        known = [*(f"{name}_score" for name in names), *([] if names else ["score"]), *before]
        check_columns(f"`{column}`", {c for c in needed if not is_output(c, names)}, known, features)
        before.append(column.casefold())


def check_columns(what: str, columns: Iterable[str], known: Sequence[str], features: str | None) -> None:
    """Refuse a column that is neither in the features query nor in a step's outputs, as far as the spec shows it.

    Args:
        known: Columns other than the features, from which the message suggests the nearest one.

    Raises:
        ValueError: names the column.
    """
    if features is None or not _names_its_columns(features):
        return
    words = {word.casefold() for word in re.findall(r"\w+", features)}
    for column in sorted(columns):
        if column not in known and not set(re.findall(r"\w+", column)) <= words:
            message = f"{what} needs `{column}`, not found in the features or in an earlier step's outputs."
            raise ValueError(message + nearest(column, known))


def _names_its_columns(query: str) -> bool:
    """Whether the query names all its columns."""
    words = {word.casefold() for word in re.findall(r"\w+", query)}
    starred = re.search(r"(?:\bselect|\bdistinct|[,.])\s*\*|\bdistinct\s+on\b|(?:^|\()\s*from\b", query, re.IGNORECASE)
    return "select" in words and not starred and not words & _NAMELESS
