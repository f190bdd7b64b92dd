"""Draft a manifest from a model file and its reference rows. The registry writes it."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from penstock.errors import ModelMismatch, ModelRefused
from penstock.models.booster import ModelVersion, open_booster
from penstock.models.booster_facts import BoosterFacts
from penstock.models.columns import is_text
from penstock.models.golden import choose_golden_rows, golden_table, read_inputs, with_outputs
from penstock.models.manifest import PREDICTED_CLASS, Feature, GoldenRow, Manifest
from penstock.models.reference import describe_column


@dataclass(frozen=True)
class Candidate:
    """A file to register as a version, with what its owner knows about it."""

    name: str
    content: bytes
    file_name: str
    reference: pa.Table
    categories: Mapping[str, Sequence[str]] = field(default_factory=dict)
    classes: Sequence[str] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    trained_from: datetime | None = None
    trained_until: datetime | None = None
    group: Sequence[str] = ()


def draft_manifest(candidate: Candidate, created_at: datetime) -> Manifest:
    """Build the manifest, under version 1. Golden rows and distributions come from the reference rows.

    Raises:
        ModelRefused: the file, its classes or its categories do not fit together.
        ModelMismatch: the reference rows lack a feature, or none of them can be scored.
    """
    label = candidate.name
    booster, facts = open_booster(candidate.content, label, candidate.file_name)
    missing = tuple(f.name for f in facts.features if f.name not in candidate.reference.column_names)
    if missing:
        raise ModelMismatch(label, missing, "needs columns that the reference rows do not have")
    facts = replace(facts, features=tuple(_with_categories(f, candidate) for f in facts.features))
    classes = _classes(facts, candidate)
    try:
        draft = Manifest(
            name=candidate.name,
            version="1",
            file="model.json" if facts.format == "json" else "model.ubj",
            sha256=hashlib.sha256(candidate.content).hexdigest(),
            features=facts.features,
            objective=facts.objective,
            outputs=_outputs(facts, classes),
            classes=classes,
            group=tuple(candidate.group),
            best_iteration=facts.best_iteration,
            saved_by=facts.saved_by,
            trained_from=candidate.trained_from,
            trained_until=candidate.trained_until,
            metrics=dict(candidate.metrics),
            created_at=created_at,
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ModelRefused(label, f"an argument of its registration is not valid: `{where}`: {first['msg']}.") from None
    return _with_golden_rows(ModelVersion(draft, booster), candidate.reference)


def _with_golden_rows(version: ModelVersion, reference: pa.Table) -> Manifest:
    manifest = version.manifest
    columns = version.read(reference)
    refused = {row for column in columns for row in column.misfits}
    rows = choose_golden_rows(columns, reference.num_rows, refused)
    if not rows:
        why = next((misfit.text for column in columns for misfit in column.misfits.values()), "there are none")
        raise ModelMismatch(
            manifest.name, manifest.feature_names, f"needs reference rows that it can score ({why}), with these columns"
        )
    inputs = read_inputs(columns, rows)
    unscored = manifest.model_copy(update={"golden": tuple(GoldenRow(inputs=given, outputs={}) for given in inputs)})
    return unscored.model_copy(
        update={
            "golden": with_outputs(inputs, version.score(golden_table(unscored))),
            "reference": {column.feature.name: describe_column(column) for column in columns},
        }
    )


def _with_categories(feature: Feature, candidate: Candidate) -> Feature:
    """Take the categories from the model, then from the caller, then from a dictionary-encoded reference column.

    They are never collected from the values: a category without a row would shift the codes of all others.
    """
    given = candidate.categories.get(feature.name)
    if feature.dtype != "category":
        if given is not None:
            raise ModelRefused(candidate.name, f"`{feature.name}` is a {feature.dtype} in the file, not a category.")
        return feature
    if feature.categories:
        if given is not None and tuple(given) != feature.categories:
            raise ModelRefused(
                candidate.name, f"the categories given for `{feature.name}` are not the file's: {feature.categories}."
            )
        return feature
    column: Any = candidate.reference.column(feature.name)
    if given is None and pa.types.is_dictionary(column.type) and is_text(column.type.value_type):
        given = column.combine_chunks().dictionary.to_pylist()
    if not given:
        raise ModelRefused(
            candidate.name,
            f"the file has no categories of `{feature.name}` (saved by an XGBoost before 3.1, or trained on "
            "codes). Give them in the order of their codes with `categories`.",
        )
    return feature.model_copy(update={"categories": tuple(given)})


def _classes(facts: BoosterFacts, candidate: Candidate) -> tuple[str, ...]:
    classes = tuple(candidate.classes) or tuple(str(number) for number in range(facts.classes))
    if len(classes) != facts.classes or len(set(classes)) != len(classes):
        raise ModelRefused(
            candidate.name,
            f"{len(classes)} class labels were given, and `{facts.objective}` has {facts.classes} classes. "
            "Give one label a class of a multi-class model, in the order of its numbers, and none for other models.",
        )
    return classes


def _outputs(facts: BoosterFacts, classes: tuple[str, ...]) -> tuple[str, ...]:
    if classes:
        return (*(f"score_{label}" for label in classes), PREDICTED_CLASS)
    if facts.targets > 1:
        return tuple(f"score_{number}" for number in range(facts.targets))
    return ("score",)
