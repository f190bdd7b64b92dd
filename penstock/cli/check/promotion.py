"""Check that a promotion could be judged: its pipelines agree, and the model gives what is measured."""

from typing import TYPE_CHECKING

from penstock.cli.check.report import CheckReport
from penstock.wording import plural

if TYPE_CHECKING:
    from penstock.models.manifest import Manifest
    from penstock.settings import Settings
    from penstock.spec.pipeline import Pipeline

_METRICS = {
    "classification": ("auc", "pr_auc", "log_loss", "brier"),
    "regression": ("mae", "rmse"),
}
"""The metrics that a promotion can compare, by what the model solves. Of other problems it compares none."""


def check_promotion(pipeline: "Pipeline", settings: "Settings", manifest: "Manifest", report: CheckReport) -> None:
    """Check the `promotion` of a pipeline, and that the other pipelines of its model say the same."""
    from penstock.models.measuring import solved_problem
    from penstock.promotion.specs import find_promoting, group_by_model

    promotion = pipeline.promotion
    if promotion is None:
        return
    with report.about("promotion"):
        promoting = group_by_model([pipeline])[manifest.name]
        if (settings.pipelines / f"{pipeline.name}.yaml").is_file():
            promoting = find_promoting(settings.pipelines, manifest.name)
        problem = solved_problem(manifest) if promotion.require.metrics else ""
        for metric in promotion.require.metrics:
            compared = _METRICS.get(problem, ())
            if metric not in compared:
                what = f"`{metric}` is never measured for {manifest.label}, which is a {problem}; "
                known = ", ".join(f"`{name}`" for name in compared) or "no metric"
                report.problem("promotion", f"{what}promotions of it compare {known}")
        who = "a person approves" if promotion.approval == "person" else "no person is asked"
        shared = plural(len(promoting.pipelines), "pipeline")
        report.ok("promotion", f"`{manifest.name}@{promotion.alias}` to {pipeline.candidate} by {shared}, {who}")
