"""The columns that a pipeline's models need from its features, and those that models and decisions give."""

from collections.abc import Mapping

from penstock.errors import ModelError
from penstock.models.manifest import PREDICTED_CLASS, Manifest
from penstock.models.registry import Registry
from penstock.run_types import Pins
from penstock.spec.expression import read_expression
from penstock.spec.pipeline import Pipeline


def needed_columns(pipeline: Pipeline, manifests: Mapping[str, Manifest]) -> tuple[str, ...]:
    """Return the feature columns that the pipeline's models, conditions and decisions need.

    Args:
        manifests: the manifest of each step's model, by step.
    """
    needed: dict[str, None] = {}
    given = {column.casefold() for column in pipeline.decide}
    for step in pipeline.steps:
        given |= {pipeline.name_output(step, output).casefold() for output in manifests[step.name].outputs}
        needed |= {step.inputs.get(feature, feature): None for feature in manifests[step.name].input_names}
        needed |= dict.fromkeys(sorted(read_expression(step.when)) if step.when else ())
    last = () if pipeline.reasons is None else (pipeline.reasons.when,)
    for expression in (*pipeline.decide.values(), *last):
        needed |= dict.fromkeys(sorted(read_expression(expression)))
    return tuple(column for column in needed if column.casefold() not in given)


def given_columns(pipeline: Pipeline, manifests: Mapping[str, Manifest]) -> dict[str, str]:
    """Return the outputs that a run publishes, with their types; `decided` for those of `decide:`."""
    outputs = {
        pipeline.name_output(step, output): _type_of(output)
        for step in pipeline.steps
        for output in manifests[step.name].outputs
    }
    return outputs | dict.fromkeys(pipeline.decide, "decided")


def outputs_of(pins: Pins, registry: Registry) -> dict[str, str] | None:
    """Return the outputs of a run's models, with their types. None if the run or one of its models is unknown."""
    try:
        manifests = {step: registry.manifest(pin.name, pin.version) for step, pin in pins.items()}
    except ModelError:
        return None
    outputs = {
        f"{step}_{output}" if step else output: _type_of(output)
        for step, manifest in manifests.items()
        for output in manifest.outputs
    }
    return outputs or None


def _type_of(output: str) -> str:
    return "text" if output == PREDICTED_CLASS else "float"
