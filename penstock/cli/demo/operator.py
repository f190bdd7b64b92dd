"""The operator of a pack's scenario: it shows each command line, and runs the command."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from penstock.cli.demo.context import DemoContext
from penstock.cli.output import program_name, short

if TYPE_CHECKING:
    from penstock.database.connections import Database
    from penstock.examples.pack import Incident
    from penstock.examples.scenario import Measured
    from penstock.spec.pipeline import Pipeline

BY = "demo"
"""Who decides, in the ledger."""


@dataclass(frozen=True)
class DemoOperator:
    """Runs the commands of a scenario on the console of the demo. See `penstock.examples.scenario.Operator`."""

    stage: DemoContext

    def run(self, pipeline: str, end: datetime, incident: "Incident | None") -> None:
        from rich.markup import escape

        from penstock.cli.run.command import run_pipeline

        self.stage.title(f"Score {pipeline}" if incident is None else f"Incident {incident.name}")
        if incident is not None:
            self.stage.write(escape(incident.summary))
        run_pipeline(pipeline, self.stage.settings, self.stage.console, end=end)

    def accept(self, run_id: str, reason: str) -> None:
        from penstock.cli.accept import accept_halted

        self._show("accept", short(run_id), "--reason", reason, "--by", BY, "--yes")
        accept_halted(run_id, reason, BY, yes=True)

    def collect_labels(self, pipeline: str, now: datetime) -> None:
        """Collect as if it were `now`, because nobody waits for days in a demo."""
        from penstock.cli.monitor.performance import describe_coverage
        from penstock.cli.opening import open_models
        from penstock.labels.performance import add_up, list_judged_runs, read_performance
        from penstock.models.measuring import collect_and_measure

        stage, spec = self.stage, self._load(pipeline)
        done = collect_and_measure(spec, stage.settings, stage.connector, open_models(stage.settings), now)
        stage.write(f"[bold]{now:%Y-%m-%d %H:%M}[/bold] {pipeline}: {done.describe()}")
        warehouse = self._warehouse(pipeline)
        live, *_ = add_up(read_performance(warehouse, list_judged_runs(warehouse, pipeline)))
        stage.write(f"{live.model}: {describe_coverage(live)}")

    def show_performance(self, pipeline: str, now: datetime) -> None:
        from penstock.cli.monitor.performance import show_performance

        self._show("monitor", "performance", pipeline, "--as-of", f"{now:%Y-%m-%dT%H:%M}")
        show_performance(pipeline, as_of=now)

    def list_alerts(self, pipeline: str) -> Mapping[str, str]:
        return lasting_alerts(self._warehouse(pipeline), pipeline)

    def measure(self, pipeline: str) -> "list[Measured]":
        return measure_models(self._warehouse(pipeline), pipeline)

    def promote(self, pipeline: str, model: str, reason: str) -> None:
        from penstock.cli.models.command import promote_model
        from penstock.cli.publish import publish_runs

        asked = ("publish", "--pipeline", pipeline, "--scored-by", model)
        self._show(*asked, "--reason", reason, "--by", BY, "--yes")
        publish_runs(None, pipeline, model, reason=reason, by=BY, yes=True)
        name, _, version = model.partition("/")
        self._show("models", "promote", name, version, "champion", "--by", BY, "--note", reason)
        promote_model(name, version, "champion", BY, reason)

    def _show(self, *words: str) -> None:
        line = f"$ {program_name()} {shlex.join(words)}"
        self.stage.console.print(line, style="bold", markup=False, highlight=False, soft_wrap=True)

    def _load(self, pipeline: str) -> "Pipeline":
        from penstock.spec.yaml_file import find_pipeline_file, load_pipeline

        return load_pipeline(find_pipeline_file(pipeline, self.stage.settings.pipelines))

    def _warehouse(self, pipeline: str) -> "Database":
        return self.stage.connect(self._load(pipeline).destination.connection)


def lasting_alerts(warehouse: "Database", pipeline: str) -> dict[str, str]:
    """Return the message of each metric whose alert lasts."""
    from penstock.labels.alerts import list_alerts

    return {alert.metric: alert.message for alert in list_alerts(warehouse, pipeline)}


def measure_models(warehouse: "Database", pipeline: str) -> "list[Measured]":
    """Return how well each model of the published runs did, by the labels that were collected."""
    from penstock.examples.scenario import Measured
    from penstock.labels.performance import add_up, list_judged_runs, read_performance

    totals = add_up(read_performance(warehouse, list_judged_runs(warehouse, pipeline)))
    return [
        Measured(each.model, each.variant, {name: found.value for name, found in each.rows.sums.metrics().items()})
        for each in totals
    ]
