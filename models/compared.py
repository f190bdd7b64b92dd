"""What a comparison of two scorings needs of the models: the groups of rankings, and the labels of both sides."""

from datetime import datetime

from penstock.database.connections import Database
from penstock.errors import ModelNotFound
from penstock.ledger.paired_runs import PairedRuns
from penstock.models.measuring import make_question
from penstock.models.registry import Registry
from penstock.report.labelled_rows import LabelledAgreement, measure_labelled
from penstock.report.paired_rows import PairedRows
from penstock.settings import Settings
from penstock.spec.pipeline import Pipeline


def find_groups(registry: Registry, pipeline: Pipeline, paired: PairedRuns) -> dict[str, tuple[str, ...]]:
    """Return by score column of a ranking model the columns that group its rows. A version may be gone by now."""
    groups: dict[str, tuple[str, ...]] = {}
    for step in pipeline.steps:
        pins = (run.pins.get(step.name) for run in (paired.pairs[-1].b, paired.pairs[-1].a))
        for pin in filter(None, pins):
            try:
                manifest = registry.manifest(pin.name, pin.version)
            except ModelNotFound:
                continue
            if manifest.group:
                groups |= {pipeline.name_output(step, output): manifest.group for output in manifest.score_columns}
    return groups


def measure_sides(
    settings: Settings, registry: Registry, pipeline: Pipeline, database: Database, rows: PairedRows, now: datetime
) -> LabelledAgreement | None:
    """Measure both sides with the labels of the same rows. None if the pipeline has no labels, or none have come.

    Raises:
        ModelNotFound: a version is gone.
        NotMeasured: the scores are no probabilities, or the two models solve unlike problems.
    """
    if pipeline.labels is None:
        return None
    return measure_labelled(database, rows, make_question(pipeline, settings, registry, now))
