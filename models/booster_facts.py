"""Facts of a booster, and whether its manifest has the same ones."""

from dataclasses import dataclass

from penstock.errors import ModelRefused
from penstock.models.golden import REGISTER_AGAIN
from penstock.models.manifest import Feature, Manifest


@dataclass(frozen=True)
class BoosterFacts:
    """The facts that are read from a booster."""

    features: tuple[Feature, ...]
    """Categories are empty if they are not in the file."""
    objective: str
    classes: int
    """Number of classes of a multi-class objective, otherwise 0."""
    targets: int
    """Number of values that a model of another objective returns for each row."""
    best_iteration: int | None
    saved_by: str
    format: str


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
        if of_file.dtype != of_manifest.dtype or of_file.categories not in ((), of_manifest.categories):
            raise ModelRefused(
                manifest.label, f"type or categories of `{of_file.name}` differ in file and manifest. {REGISTER_AGAIN}"
            )
