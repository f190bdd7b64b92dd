"""The columns that a pipeline's models need from its features."""

from collections.abc import Mapping

from penstock.models.manifest import Manifest
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
    for expression in pipeline.decide.values():
        needed |= dict.fromkeys(sorted(read_expression(expression)))
    return tuple(column for column in needed if column.casefold() not in given)
