"""Check that a pipeline's labels can be read, and that its models can be measured with them."""

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from penstock.cli.check.report import CheckReport
from penstock.cli.check.samples import ROWS
from penstock.wording import plural

if TYPE_CHECKING:
    from penstock.database.connections import Connector
    from penstock.models.booster import ModelVersion
    from penstock.settings import Settings
    from penstock.spec.pipeline import Pipeline

SUBJECT = "labels"


def check_labels(
    pipeline: "Pipeline",
    settings: "Settings",
    connect: "Connector",
    models: "dict[str, ModelVersion]",
    report: CheckReport,
) -> None:
    """Read a few labels as a collection does: the key, `seen_at` and the value of each.

    Args:
        models: by step. Without any, the values are not compared with what a model needs.
    """
    declared = pipeline.labels
    if declared is None:
        return
    from penstock.interval import DataInterval
    from penstock.labels.collect import EARLIEST
    from penstock.labels.label_values import (
        check_values,
        count_no_class,
        number_labels,
        refuse_made_score,
        refuse_negative,
    )
    from penstock.labels.read_labels import sample_labels
    from penstock.models.measuring import solved_problem

    with report.about(SUBJECT):
        manifest = models[pipeline.steps[-1].name].manifest if models else None
        problem = solved_problem(manifest) if manifest else None
        text = manifest is None or bool(manifest.classes)
        span = DataInterval(EARLIEST, datetime.now(UTC))
        found = sample_labels(pipeline, declared, connect, span, settings.statement_seconds, ROWS, text=text)
        values = [value for label in found.labels if (value := json.loads(label.value)) is not None]
        if problem is not None and manifest is not None:
            refuse_made_score(pipeline, problem, manifest.label)
            refuse_negative(pipeline, problem)
            check_values(pipeline, problem, number_labels(pipeline, problem, values, manifest.classes))
            strange = count_no_class(pipeline, values, manifest.classes) if problem == "multiclass" else 0
            if strange:
                report.note(SUBJECT, f"{plural(strange, 'label')} of the sample of no class of the model, left out")
        if found.without_key:
            report.note(SUBJECT, f"{plural(found.without_key, 'row')} of the sample without a key, the label of no row")
        if not found.labels:
            report.note(SUBJECT, "none was seen yet")
            return
        taken_back = len(found.labels) - len(values)
        newest = max(label.seen_at for label in found.labels)
        more = f", {taken_back:,} of them NULL" if taken_back else ""
        read = f"{plural(len(found.labels), 'label')} read as a sample{more}"
        report.ok(SUBJECT, f"{read}, the newest seen at {newest:%Y-%m-%d %H:%M} UTC")
