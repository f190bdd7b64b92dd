"""Draft a manifest from a model file and its reference rows. The registry writes it."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np
import pyarrow as pa
from pydantic import ValidationError

from penstock.errors import ModelMismatch, ModelRefused
from penstock.models.booster import ModelVersion, open_booster
from penstock.models.booster_facts import BoosterFacts
from penstock.models.category_names import find_categories
from penstock.models.expected import Expected, compare_outputs, largest_rows, read_expected
from penstock.models.feature_names import GivenNames, name_by_position, read_features
from penstock.models.golden import choose_golden_rows, golden_table, read_inputs, with_outputs
from penstock.models.manifest import PREDICTED_CLASS, Distribution, Feature, GoldenRow, Link, Manifest
from penstock.models.reference import describe_column, describe_output
from penstock.run_types import Misfit
from penstock.wording import plural


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
    missing: float | None = None
    base_margin: Sequence[str] = ()
    link: Link | None = None
    iterations: int | None = None
    expected: Expected | None = None
    max_unscorable: float = 0.0
    features: GivenNames = ()


def draft_manifest(candidate: Candidate, created_at: datetime) -> Manifest:
    """Build the manifest, under version 1. Golden rows and distributions come from the reference rows.

    Raises:
        ModelRefused: the file and the arguments do not fit together, or it does not score as the training code did.
        ModelMismatch: the reference rows lack a column, or too many of them cannot be scored.
    """
    label = candidate.name
    given = read_features(label, candidate.features) if candidate.features else ()
    booster, facts = open_booster(
        candidate.content, label, candidate.file_name, lambda count: given or _name_by_reference(candidate, count)
    )
    if given and facts.named and tuple(f.name for f in given) != tuple(f.name for f in facts.features):
        names = ", ".join(f"`{feature.name}`" for feature in facts.features)
        raise ModelRefused(label, f"its file has other feature names than those given: {names}. Leave `features` out.")
    needed = dict.fromkeys((*(f.name for f in facts.features), *candidate.base_margin))
    missing = tuple(name for name in needed if name not in candidate.reference.column_names)
    if missing:
        raise ModelMismatch(label, missing, "needs columns that the reference rows do not have")
    candidate = replace(candidate, missing=_missing(facts, candidate))
    facts = replace(facts, features=tuple(_with_categories(f, facts, candidate) for f in facts.features))
    classes = _classes(facts, candidate)
    outputs = _outputs(facts, classes)
    _check_arguments(facts, candidate, len(classes) or facts.targets)
    try:
        draft = Manifest(
            name=candidate.name,
            version="1",
            file="model.json" if facts.format == "json" else "model.ubj",
            sha256=hashlib.sha256(candidate.content).hexdigest(),
            features=facts.features,
            objective=facts.objective,
            outputs=outputs,
            classes=classes,
            group=tuple(candidate.group),
            best_iteration=facts.best_iteration,
            iterations=candidate.iterations,
            missing=candidate.missing,
            base_margin=tuple(candidate.base_margin),
            link=candidate.link,
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
    return _with_golden_rows(ModelVersion(draft, booster), candidate, facts)


def _with_golden_rows(version: ModelVersion, candidate: Candidate, facts: BoosterFacts) -> Manifest:
    manifest, reference = version.manifest, candidate.reference
    columns, margins = version.read(reference), version.read_margins(reference)
    refused = {row: misfit for column in columns + margins for row, misfit in column.misfits.items()}
    _check_share(candidate, manifest, refused)
    usable = np.setdiff1d(np.arange(reference.num_rows), np.fromiter(refused, np.int64, len(refused)))
    rows = choose_golden_rows(columns, usable)
    expected = None
    if candidate.expected is not None:
        expected = read_expected(manifest, candidate.expected, reference, usable)
        compare_outputs(version, facts.rounds, reference.take(pa.array(usable, pa.int64())), expected)
        rows = sorted({*rows, *(int(usable[at]) for at in largest_rows(expected))})
    inputs = read_inputs(columns + margins, rows)
    unscored = manifest.model_copy(update={"golden": tuple(GoldenRow(inputs=given, outputs={}) for given in inputs)})
    outputs = version.score(golden_table(unscored))
    if expected is not None:
        golden = expected.take(pa.array(np.searchsorted(usable, rows), pa.int64()))
        for name in golden.column_names:
            outputs = outputs.set_column(outputs.column_names.index(name), name, golden.column(name))
    return unscored.model_copy(
        update={
            "golden": with_outputs(inputs, outputs),
            "reference": {column.feature.name: describe_column(column) for column in columns},
            "reference_scores": _describe_scores(version, reference.take(pa.array(usable, pa.int64()))),
            "reference_rows": reference.num_rows,
            "unscorable_rows": len(refused),
            "verified_rows": None if expected is None else len(usable),
        }
    )


def _describe_scores(version: ModelVersion, rows: pa.Table) -> dict[str, Distribution]:
    """Return the distribution of each numeric output over the reference rows that can be scored."""
    scores = version.score(rows)
    return {name: describe_output(name, scores[name]) for name in version.manifest.score_columns}


def _name_by_reference(candidate: Candidate, features: int) -> tuple[Feature, ...]:
    """Name the features of a file by the columns of the reference rows, which the expected outputs then verify."""
    if candidate.expected is None:
        raise ModelRefused(
            candidate.name,
            f"its file has {plural(features, 'feature')} without names. Give the names with `features`, in the order "
            "of the training columns; or give the training code's outputs with `expected`, and the columns of the "
            "reference rows are taken in their order.",
        )
    expected = candidate.expected
    others = {expected} if isinstance(expected, str) else set() if isinstance(expected, pa.Table) else set(expected)
    others |= set(candidate.base_margin)
    columns = [name for name in candidate.reference.column_names if name not in others]
    return name_by_position(candidate.name, columns, features)


def _missing(facts: BoosterFacts, candidate: Candidate) -> float | None:
    """Return the missing value: that of the file if it has one."""
    given = None if candidate.missing is None or math.isnan(candidate.missing) else candidate.missing
    if facts.missing is not None and candidate.missing is not None and given != facts.missing:
        raise ModelRefused(
            candidate.name,
            f"its file says that {facts.missing:g} is the missing value, and {candidate.missing:g} is given. Leave "
            "`missing` out.",
        )
    return given if facts.missing is None else facts.missing


def _check_share(candidate: Candidate, manifest: Manifest, refused: Mapping[int, Misfit]) -> None:
    """Refuse reference rows of which none can be scored, or too few."""
    rows = candidate.reference.num_rows
    why = refused[min(refused)].text if refused else "there are none"
    if len(refused) == rows:
        reason = f"needs reference rows that it can score ({why}), with these columns"
        raise ModelMismatch(candidate.name, manifest.input_names, reason)
    if len(refused) > candidate.max_unscorable * rows:
        raise ModelRefused(
            candidate.name,
            f"it cannot score {len(refused):,} of {plural(rows, 'reference row')}, the first because of {why}. The "
            f"share that may be so is {candidate.max_unscorable:g}: correct the rows, or allow more with "
            "`max_unscorable`.",
        )


def _check_arguments(facts: BoosterFacts, candidate: Candidate, outputs: int) -> None:
    """Refuse arguments that do not fit the file, and a file that may need one that is not given."""
    margins, rounds, link = len(candidate.base_margin), candidate.iterations, candidate.link
    if margins not in (0, outputs):
        given = plural(margins, "column is", "columns are")
        what = f"{given} given as its base margin, and it has {plural(outputs, 'output')}. Give one for each."
        raise ModelRefused(candidate.name, what)
    if rounds is not None and (facts.rounds is None or rounds > facts.rounds):
        has = "a linear model always scores with all of them" if facts.rounds is None else f"it has {facts.rounds}"
        raise ModelRefused(candidate.name, f"it cannot score with {rounds} boosting rounds: {has}.")
    best, has_rounds = facts.best_iteration, facts.rounds
    if rounds is None and best is not None and has_rounds is not None and best >= has_rounds:
        raise ModelRefused(
            candidate.name,
            f"its file says that round {best} is the best, counted from 0, and has {has_rounds}. Say "
            "with `iterations` how many score.",
        )
    if link == "softmax" and outputs == 1:
        raise ModelRefused(candidate.name, "the link `softmax` needs a model with several classes, and it has none.")
    if not 0 <= candidate.max_unscorable <= 1:
        raise ModelRefused(
            candidate.name, f"`max_unscorable` is {candidate.max_unscorable:g}, not a share from 0 to 1."
        )
    if facts.may_be_custom and link is None and candidate.expected is None:
        raise ModelRefused(
            candidate.name,
            f"a custom objective may have trained it: its file says `{facts.objective}` and has no base score that was "
            "estimated from labels, so raw margins might be published. Say what makes outputs of margins with `link`: "
            f"{'softmax' if facts.classes else 'identity'}, sigmoid or exp; or give the training code's outputs with "
            "`expected`.",
        )


def _with_categories(feature: Feature, facts: BoosterFacts, candidate: Candidate) -> Feature:
    given = candidate.categories.get(feature.name)
    if feature.dtype == "category":
        column, stored = candidate.reference.column(feature.name), facts.stored_names.get(feature.name)
        return feature.model_copy(
            update={"categories": find_categories(candidate.name, feature, stored, given, column)}
        )
    if given is not None and not facts.typed:
        return feature.model_copy(update={"dtype": "category", "categories": tuple(given)})
    if given is not None:
        raise ModelRefused(candidate.name, f"`{feature.name}` is a {feature.dtype} in the file, not a category.")
    return feature


def _classes(facts: BoosterFacts, candidate: Candidate) -> tuple[str, ...]:
    stored = facts.labels if len(facts.labels) == facts.classes else ()
    classes = tuple(candidate.classes) or stored or tuple(str(number) for number in range(facts.classes))
    if len(classes) != facts.classes or len(set(classes)) != len(classes):
        given = plural(len(classes), "class label was", "class labels were")
        raise ModelRefused(
            candidate.name,
            f"{given} given, and `{facts.objective}` has {facts.classes} classes. "
            "Give one label a class of a multi-class model, in the order of its numbers, and none for other models.",
        )
    return classes


def _outputs(facts: BoosterFacts, classes: tuple[str, ...]) -> tuple[str, ...]:
    if classes:
        return (*(f"score_{label}" for label in classes), PREDICTED_CLASS)
    if facts.targets > 1:
        return tuple(f"score_{number}" for number in range(facts.targets))
    return ("score",)
