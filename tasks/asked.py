"""Read what a person asked of a flow: all wrong values are named in one error, by the labels of the form.

A value may come from the form, the API, an automation or Python. So text stands for a number or a yes too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar, get_args

from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound

from penstock.errors import SpecError, UsageError, WrongParameters, nearest
from penstock.interval import parse_moment
from penstock.promotion.specs import PromotingPipelines, find_promoting
from penstock.run.planning import Mode
from penstock.spec.pipeline import Pipeline
from penstock.spec.sandbox import as_sandbox
from penstock.spec.steps import choose_challengers, choose_models, read_version
from penstock.spec.yaml_file import find_pipeline_file, load_pipeline
from penstock.tasks.deployed import ANY_PIPELINE
from penstock.tasks.form import LABELS, MOST_PARALLEL, MOST_ROWS
from penstock.tasks.process_resources import settings

_Value = TypeVar("_Value")
_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_MODES: tuple[Mode, ...] = get_args(Mode)


@dataclass(frozen=True)
class AskedScore:
    """What one run of the scoring flow is to do."""

    pipeline: Pipeline
    mode: Mode
    start: datetime | None
    end: datetime | None
    model: str
    partition_rows: int | None
    dry_run: bool
    scored_by: str
    challengers: str


@dataclass(frozen=True)
class AskedBackfill:
    """What one run of the backfill flow is to do."""

    named: str
    """The pipeline's name or path."""
    pipeline: Pipeline
    start: datetime | None
    end: datetime | None
    parallel: int
    restate: bool


@dataclass(frozen=True)
class AskedPromotion:
    """What one run of the flow that promotes is to do."""

    promoting: PromotingPipelines
    ask_again: bool


def read_asked_score(
    pipeline: object,
    mode: object,
    start: object,
    end: object,
    model: object,
    partition_rows: object,
    dry_run: object,
    scored_by: object = "",
    sandbox: object = "",
    challengers: object = "",
) -> AskedScore:
    """Read the parameters of the scoring flow.

    Raises:
        WrongParameters: one or more values cannot be used.
        SpecError: the pipeline's file is wrong.
    """
    reader = _Reader()
    spec = reader.read("pipeline", pipeline, _load_own)
    spec = reader.read("sandbox", sandbox, lambda value: _read_sandbox(value, spec))
    asked = (
        reader.read("mode", mode, _read_mode),
        reader.read("start", start, _read_moment),
        reader.read("end", end, _read_moment),
        reader.read("model", model, lambda value: _read_model(value, spec)),
        reader.read("partition_rows", partition_rows, lambda value: _read_number(value, 0, MOST_ROWS)),
        reader.read("dry_run", dry_run, _read_flag),
        reader.read("scored_by", scored_by, lambda value: _read_version(value, mode)),
        reader.read("challengers", challengers, lambda value: _read_challengers(value, spec)),
    )
    reader.refuse_wrong()
    known, start_at, end_at, models, rows, is_dry, version, beside = asked
    assert spec is not None
    choices = (models or "", rows or None, bool(is_dry), version or "", beside or "")
    return AskedScore(spec, known or "due", start_at, end_at, *choices)


def read_asked_backfill(
    pipeline: object, start: object, end: object, parallel: object, restate: object
) -> AskedBackfill:
    """Read the parameters of the backfill flow.

    Raises:
        WrongParameters: one or more values cannot be used.
        SpecError: the pipeline's file is wrong.
    """
    reader = _Reader()
    spec = reader.read("pipeline", pipeline, _load_own)
    asked = (
        reader.read("start", start, _read_moment),
        reader.read("end", end, _read_moment),
        reader.read("parallel", parallel, lambda value: _read_number(value, 1, MOST_PARALLEL)),
        reader.read("restate", restate, _read_flag),
    )
    reader.refuse_wrong()
    start_at, end_at, most, again = asked
    assert spec is not None
    return AskedBackfill(str(pipeline).strip(), spec, start_at, end_at, most or 1, bool(again))


def read_asked_pipeline(pipeline: object, flow: str) -> Pipeline:
    """Read the parameter of a flow that takes a pipeline and nothing else.

    Args:
        flow: the name of the flow.

    Raises:
        WrongParameters: the pipeline is not there, or is another one than that of the deployment.
        SpecError: the pipeline's file is wrong.
    """
    reader = _Reader()
    spec = reader.read("pipeline", pipeline, lambda value: _load_own(value, flow))
    reader.refuse_wrong()
    assert spec is not None
    return spec


def read_asked_promotion(model: object, ask_again: object) -> AskedPromotion:
    """Read the parameters of the flow that promotes a model.

    Raises:
        WrongParameters: no pipeline promotes the model, two of them differ, or the deployment is another model's.
        SpecError: a file of the pipelines folder is wrong.
    """
    reader = _Reader()
    promoting = reader.read("model", model, _find_own_promoting)
    again = reader.read("ask_again", ask_again, _read_flag)
    reader.refuse_wrong()
    assert promoting is not None
    return AskedPromotion(promoting, bool(again))


class _Reader:
    """Reads one parameter after the other and collects what is wrong."""

    def __init__(self) -> None:
        self._problems: list[str] = []

    def read(self, name: str, value: object, parse: Callable[[object], _Value]) -> _Value | None:
        try:
            return parse(value.strip() if isinstance(value, str) else value)
        except SpecError:
            raise
        except (ValueError, UsageError) as error:
            self._problems.append(f"{LABELS[name]}: {error}")
            return None

    def refuse_wrong(self) -> None:
        if self._problems:
            raise WrongParameters(tuple(self._problems))


def _read_moment(value: object) -> datetime | None:
    if value is None or value == "":
        return None
    return value if isinstance(value, datetime) else parse_moment(str(value))


def _read_mode(value: object) -> Mode:
    word = str(value).casefold()
    if word not in _MODES:
        raise ValueError(f"`{_show(value)}` is no choice.{nearest(word, _MODES)} Write {', '.join(_MODES)}.")
    return word


def _read_model(value: object, spec: Pipeline | None) -> str:
    choice = "" if value is None else str(value)
    if spec is not None:
        choose_models(spec.steps, choice)
    return choice


def _read_challengers(value: object, spec: Pipeline | None) -> str:
    choice = "" if value is None else str(value)
    choose_challengers(spec.challengers if spec else (), choice)
    return choice


def _read_sandbox(value: object, spec: Pipeline | None) -> Pipeline | None:
    """Return the pipeline of a sandbox. Without a name of one, it is the pipeline itself.

    The deployment of a pipeline runs one flow run at a time, and a scheduled one would wait for the sandbox.
    """
    if not value or spec is None:
        return spec
    made = as_sandbox(spec, str(value))
    if _own_parameter("pipeline") is not None:
        raise ValueError(f"start a sandbox from `score/{ANY_PIPELINE}`, so that no scheduled run waits for it.")
    return made


def _read_version(value: object, mode: object) -> str:
    version = "" if value is None else read_version(str(value))
    if version and str(mode).strip().casefold() != "restate":
        raise ValueError("only a restate takes it.")
    return version


def _read_number(value: object, least: int, most: int) -> int:
    text = "" if isinstance(value, bool) else str(value)
    number = int(text) if text.isdecimal() and len(text) < 20 else -1
    if not least <= number <= most:
        raise ValueError(f"`{_show(value)}` is not a whole number from {least:,} to {most:,}.")
    return number


def _read_flag(value: object) -> bool:
    known = _WORDS.get(str(value).casefold())
    if known is None:
        raise ValueError(f"`{_show(value)}` is neither true nor false.")
    return known


def _show(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _load_own(value: object, flow: str = "score") -> Pipeline:
    """Load the pipeline, unless this flow run comes from the deployment of another one.

    A deployment whose own parameters name a pipeline has that pipeline's history, tags and slot.
    """
    own = _own_parameter("pipeline")
    if own is not None and value != own:
        does, instead = ("scores", ", or from `score/any_pipeline`") if flow == "score" else ("works on", "")
        raise ValueError(
            f"the deployment `{flow}/{own}` {does} only `{own}`, not `{_show(value)}`. "
            f"Start the run from that pipeline's own deployment{instead}."
        )
    return load_pipeline(find_pipeline_file(str(value), Path(settings().pipelines)))


def _find_own_promoting(value: object) -> PromotingPipelines:
    """Return the pipelines that promote a model, unless this flow run comes from the deployment of another one."""
    own = _own_parameter("model")
    if own is not None and value != own:
        raise ValueError(
            f"the deployment `promote/{own}` promotes only `{own}`, not `{_show(value)}`. Start the run from that "
            "model's own deployment."
        )
    return find_promoting(Path(settings().pipelines), str(value))


def _own_parameter(name: str) -> Any:
    """Return a parameter of this flow run's own deployment. None without a deployment."""
    context = FlowRunContext.get()
    deployment_id = context.flow_run.deployment_id if context and context.flow_run else None
    if deployment_id is None:
        return None
    try:
        with get_client(sync_client=True) as client:
            return client.read_deployment(deployment_id).parameters.get(name)
    except ObjectNotFound:  # deleted since the run was scheduled
        return None
