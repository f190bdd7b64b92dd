"""Facts of a booster, and whether its manifest has the same ones."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from penstock.errors import ModelRefused
from penstock.models.category_names import StoredNames
from penstock.models.golden import REGISTER_AGAIN
from penstock.models.manifest import Feature, Manifest


@dataclass(frozen=True)
class BoosterFacts:
    """The facts that are read from a booster."""

    features: tuple[Feature, ...]
    """Categories are empty if they are not in the file, or if XGBoost may have cut their names."""
    objective: str
    classes: int
    """Number of classes of a multi-class model, otherwise 0."""
    targets: int
    """Number of values that a model of another objective returns for each row."""
    best_iteration: int | None
    rounds: int | None
    """Number of boosting rounds. None for a linear model, which always scores with all."""
    saved_by: str
    format: str
    may_be_custom: bool = False
    """Whether the file looks as one of a custom objective does, whose link it does not store."""
    stored_names: Mapping[str, StoredNames] = field(default_factory=dict)
    """Of category features with names beyond ASCII: the names as the file has them."""
    named: bool = True
    """Whether the file has names of its features, other than their positions."""
    typed: bool = True
    """Whether the file has types of its features."""
    labels: tuple[str, ...] = ()
    """Labels of the classes, which only wrappers of XGBoost 1 store."""
    missing: float | None = None
    """Missing value beside NaN, which only wrappers of XGBoost 1 store."""


def check_manifest(facts: BoosterFacts, manifest: Manifest) -> None:
    """Raise `ModelRefused` if file and manifest describe different models."""
    for actual, registered, what in (
        (tuple(f.name for f in facts.features), manifest.feature_names, "features"),
        (facts.objective, manifest.objective, "objective"),
        (facts.best_iteration, manifest.best_iteration, "best iteration"),
    ):
        if actual != registered:
            raise ModelRefused(
                manifest.label, f"its file has {what} {actual}, its manifest {registered}. {REGISTER_AGAIN}"
            )
    for of_file, of_manifest in zip(facts.features, manifest.features, strict=True):
        stored = facts.stored_names.get(of_file.name)
        same = stored.are(of_manifest.categories) if stored else of_file.categories in ((), of_manifest.categories)
        if of_file.dtype != of_manifest.dtype or not same:
            raise ModelRefused(
                manifest.label, f"type or categories of `{of_file.name}` differ in file and manifest. {REGISTER_AGAIN}"
            )
