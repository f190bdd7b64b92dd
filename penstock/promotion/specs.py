"""The pipelines of a project that promote one model. They share its alias."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from penstock.errors import NoPromotion, PromotionsDiffer
from penstock.spec.pipeline import Pipeline
from penstock.spec.promotion import Promotion
from penstock.spec.steps import ModelRef
from penstock.spec.yaml_file import load_pipeline

_SHARED = ("alias", "approval", "answer_within", "schedule")


@dataclass(frozen=True)
class PromotingPipelines:
    """The pipelines with `promotion:` on one model, which agree in what concerns its alias."""

    model: str
    pipelines: tuple[Pipeline, ...]
    """By name. There is at least one."""

    @property
    def promotion(self) -> Promotion:
        """What all of them say. Their requirements are their own."""
        found = self.pipelines[0].promotion
        assert found is not None
        return found

    @property
    def alias(self) -> str:
        return self.promotion.alias

    @property
    def candidate(self) -> ModelRef:
        """The challenger that all of them name."""
        found = self.pipelines[0].candidate
        assert found is not None
        return found

    @property
    def fingerprint(self) -> str:
        """The sha256 of what they share."""
        return hashlib.sha256(self.promotion.model_dump_json(include=set(_SHARED)).encode()).hexdigest()

    @property
    def home(self) -> str:
        """The connection of the ledger that has the model's promotions: that of the first pipeline."""
        return self.pipelines[0].destination.connection


def find_promoting(folder: Path, model: str) -> PromotingPipelines:
    """Return the pipelines of a folder that promote a model.

    Raises:
        NoPromotion: there is none.
        PromotionsDiffer: two of them say different things about the alias.
        SpecError: a file of the folder cannot be read, so that nobody knows whether it promotes the model.
    """
    found = group_by_model(load_pipeline(file) for file in sorted(folder.glob("*.yaml")))
    if model not in found:
        raise NoPromotion(model, tuple(sorted(found)))
    return found[model]


def group_by_model(pipelines: Iterable[Pipeline]) -> dict[str, PromotingPipelines]:
    """Return the pipelines with `promotion:` by the model that they promote.

    Raises:
        PromotionsDiffer: two of them say different things about one alias.
    """
    found: dict[str, list[Pipeline]] = {}
    for pipeline in sorted(pipelines, key=lambda each: each.name):
        if pipeline.promotion is not None and pipeline.model is not None:
            found.setdefault(pipeline.model.name, []).append(pipeline)
    for model, named in found.items():
        _refuse_differing(model, named)
    return {model: PromotingPipelines(model, tuple(named)) for model, named in found.items()}


def _refuse_differing(model: str, pipelines: Sequence[Pipeline]) -> None:
    first, *others = pipelines
    for other in others:
        differing = [what for what in _SHARED if getattr(first.promotion, what) != getattr(other.promotion, what)]
        if first.candidate != other.candidate:
            differing.append("challenger")
        if differing:
            raise PromotionsDiffer(model, (first.name, other.name), differing[0])
