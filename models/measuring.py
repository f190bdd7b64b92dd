"""Measure the runs of a pipeline with its labels. The models tell what their scores are."""

from dataclasses import dataclass
from datetime import datetime
from functools import cache

from penstock.database.connections import Connector
from penstock.errors import ModelNotFound, NotMeasured
from penstock.interval import iso
from penstock.labels.alerts import Alert, judge_performance
from penstock.labels.collect import Collected, collect_labels, labels_of
from penstock.labels.judged_rows import Question
from penstock.labels.performance import refresh_performance
from penstock.ledger.reader import RunRecord
from penstock.models.manifest import Manifest
from penstock.models.registry import Registry
from penstock.monitor.performance_sums import Problem
from penstock.privacy.masking import make_masking
from penstock.settings import Settings
from penstock.spec.pipeline import Pipeline
from penstock.wording import plural

_SURVIVAL: dict[str, Problem] = {"survival:cox": "hazard", "survival:aft": "lifetime"}
_CLASSIFICATION = ("binary:logistic", "binary:hinge", "reg:logistic")


@dataclass(frozen=True)
class Measured:
    """What one collection of labels did."""

    collected: Collected
    measured_runs: int
    """Runs whose performance was computed."""
    alerts: tuple[Alert, ...]
    """Metrics beyond their limits that no message was sent about."""
    unmeasured: tuple[str, ...] = ()
    """Runs that could not be measured, and why."""
    no_class: int = 0
    """Labels of the measured runs that are no class of the model."""

    def describe(self) -> str:
        """Say what was done, in one line."""
        done = self.collected
        until = "" if done.seen_until is None else f", the newest seen at {iso(done.seen_until)}"
        left_out = {
            f"{plural(done.without_key, 'row')} without a key left out": done.without_key,
            f"{plural(done.lost.without_time, 'row')} without a time of being seen left out": done.lost.without_time,
            f"{plural(done.lost.unreadable, 'line')} that cannot be read left out": done.lost.unreadable,
            f"{plural(self.no_class, 'label')} of no class of the model left out": self.no_class,
        }
        told = [text for text, number in left_out.items() if number]
        read = "; ".join([f"{plural(done.new, 'new label')} of {done.read:,} read{until}", *told])
        return "; ".join([f"{read}; {plural(self.measured_runs, 'run')} measured", *self.unmeasured])


def collect_and_measure(
    pipeline: Pipeline, settings: Settings, connect: Connector, registry: Registry, now: datetime
) -> Measured:
    """Collect the labels that have come, and compute the performance of the runs that they may change.

    Raises:
        NoLabels: the pipeline declares none.
        NotMeasured, ModelNotFound, LabelValue, TooManySlices: no run of the pipeline can be measured. It is the error
            of the first one.
    """
    question = make_question(pipeline, settings, registry, now)
    text = has_classes(pipeline, registry)
    collected = collect_labels(pipeline, connect, question.masking, now, settings.statement_seconds, text=text)
    database = connect(pipeline.destination.connection)
    refreshed = refresh_performance(database, question)
    if refreshed.unmeasured and not refreshed.kept:
        raise refreshed.unmeasured[0][1]
    unmeasured = tuple(f"run {run.run_id[:8]} not measured: {error}" for run, error in refreshed.unmeasured)
    alerts = tuple(judge_performance(database, question))
    return Measured(collected, refreshed.runs, alerts, unmeasured, refreshed.no_class)


def make_question(
    pipeline: Pipeline, settings: Settings, registry: Registry, now: datetime, as_of: datetime | None = None
) -> Question:
    """Return whose scores are judged, and with which labels.

    Raises:
        NoLabels: the pipeline declares none.
    """

    @cache
    def read(name: str, version: str) -> tuple[Problem, tuple[str, ...]]:
        manifest = registry.manifest(name, version)
        return solved_problem(manifest), manifest.classes

    def problem_of(run: RunRecord) -> Problem:
        return read(run.model_name, run.model_version)[0]

    def classes_of(run: RunRecord) -> tuple[str, ...]:
        return read(run.model_name, run.model_version)[1]

    masking = make_masking(pipeline, settings)
    return Question(pipeline, labels_of(pipeline), problem_of, masking, now, as_of, classes_of=classes_of)


def has_classes(pipeline: Pipeline, registry: Registry) -> bool:
    """Whether the model that the pipeline names has several classes, so that a label may be text."""
    try:
        pin = registry.resolve(pipeline.steps[-1].model)
        return bool(registry.manifest(pin.name, pin.version).classes)
    except ModelNotFound:
        return False


def solved_problem(manifest: Manifest) -> Problem:
    """Return what the model's score is.

    Raises:
        NotMeasured: it gives raw margins.
    """
    objective = manifest.objective
    if manifest.link == "sigmoid" or objective in _CLASSIFICATION:
        return "classification"
    family = objective.partition(":")[0]
    if family == "rank":
        return "ranking"
    if objective in _SURVIVAL:
        return _SURVIVAL[objective]
    if manifest.classes:
        return "multiclass"
    if family in ("multi", "survival", "binary"):
        raise NotMeasured(
            f"`{manifest.label}`",
            f"its objective is `{objective}`",
            "Labels measure models that give probabilities, regressions, rankings and survival models.",
        )
    return "regression"
