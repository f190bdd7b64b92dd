"""Figures of a server for Prometheus: requests, rows, seconds, models."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from penstock.run_types import deciding_model

if TYPE_CHECKING:
    from penstock.serving.scored_request import ScoredRequest
    from penstock.serving.served_pipeline import ServedPipeline

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)


class _Pipelines(Collector):
    """Reads the state of each pipeline when the figures are asked for."""

    def __init__(self, served: "Iterable[ServedPipeline]") -> None:
        self._served = tuple(served)

    def collect(self) -> Iterator[Metric]:
        coming = GaugeMetricFamily("penstock_requests_in_flight", "Requests in flight", labels=["pipeline"])
        stands = GaugeMetricFamily("penstock_model_ready", "1 if a model stands", labels=["pipeline"])
        refused = GaugeMetricFamily(
            "penstock_model_refused", "1 if the alias names an unusable one", labels=["pipeline"]
        )
        names = ["pipeline", "model", "version"]
        versions = GaugeMetricFamily("penstock_model_version", "The version that decides", labels=names)
        ages = GaugeMetricFamily("penstock_snapshot_age_seconds", "Seconds since the snapshot", labels=["pipeline"])
        sizes = GaugeMetricFamily("penstock_snapshot_bytes", "Bytes of the snapshot's rows", labels=["pipeline"])
        failed = GaugeMetricFamily(
            "penstock_snapshot_failed", "1 if the last attempt to take one failed", labels=["pipeline"]
        )
        parts = ["pipeline", "source", "status"]
        held = GaugeMetricFamily("penstock_snapshot_rows", "Rows of the snapshot, and those left out", labels=parts)
        for each in self._served:
            if each.pipeline.holds_snapshot:
                failed.add_metric([each.name], bool(each.snapshot_problem))
            if each.snapshot is not None:
                ages.add_metric([each.name], each.snapshot.age(datetime.now(UTC)))
                sizes.add_metric([each.name], each.snapshot.nbytes)
                for name, table in each.snapshot.tables.items():
                    held.add_metric([each.name, name, "held"], table.num_rows)
                    held.add_metric([each.name, name, "left out"], each.snapshot.refused[name])
            coming.add_metric([each.name], each.coming)
            stands.add_metric([each.name], each.scorer is not None)
            refused.add_metric([each.name], bool(each.problem))
            if each.scorer is not None:
                pin = deciding_model(each.scorer.pins)
                versions.add_metric([each.name, pin.name, pin.version], 1)
        yield from (coming, stands, refused, versions, ages, sizes, failed, held)
        yield from self._collect_recorded()

    def _collect_recorded(self) -> Iterator[Metric]:
        recorded = CounterMetricFamily("penstock_recorded_rows", "Rows that were recorded", labels=["pipeline"])
        dropped = CounterMetricFamily(
            "penstock_recorded_dropped", "Rows that were answered and not recorded", labels=["pipeline"]
        )
        for each in self._served:
            if each.recorder is not None:
                recorded.add_metric([each.name], each.recorder.recorded)
                dropped.add_metric([each.name], each.recorder.dropped)
        yield from (recorded, dropped)


class Metrics:
    """The figures of one process."""

    def __init__(self, served: "Iterable[ServedPipeline]") -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Pipelines(served))
        self.requests = Counter(
            "penstock_requests_total", "Answered requests", ["pipeline", "format", "status"], registry=self._registry
        )
        self.rows = Counter("penstock_rows_total", "Rows of requests", ["pipeline", "status"], registry=self._registry)
        self.seconds = Histogram(
            "penstock_request_seconds",
            "Seconds from a request to its answer",
            ["pipeline", "format"],
            registry=self._registry,
            buckets=_SECONDS,
        )

    def count(self, scored: "ScoredRequest") -> None:
        """Count the rows of a request by what became of them, also if the request is refused for one of them."""
        for outcome in scored.outcomes:
            self.rows.labels(scored.pipeline.name, outcome.status).inc()

    def write(self) -> bytes:
        """Return the figures in Prometheus's text format."""
        return generate_latest(self._registry)
