"""Gather what the runs of the champion and of the challenger have shown, as a document with a digest.

The document depends on the runs, the labels that had been collected by its time, and the spec. Gathered again for the
same time, intervals and collections it is the same, unless one of these has changed.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime

from penstock.database.connections import Connector, Database
from penstock.errors import CompareRefused, LabelValue, ModelNotFound, NotMeasured
from penstock.interval import iso
from penstock.ledger.label_sources import read_label_source
from penstock.ledger.migrations import has_ledger
from penstock.ledger.paired_runs import PairedRuns, RunPair, find_pairs
from penstock.ledger.profiles import list_alarms
from penstock.models.measuring import make_question
from penstock.models.registry import Registry
from penstock.promotion.gate import Check, Shown, judge_gate
from penstock.promotion.specs import PromotingPipelines
from penstock.report.comparison import compare_rows
from penstock.report.labelled_rows import measure_labelled
from penstock.report.paired_rows import PairedRows
from penstock.run_types import ModelPin
from penstock.settings import Settings
from penstock.spec.pipeline import Pipeline

DECIMALS = 6
"""Of a metric. Databases add rows in any order, so the last digits of a sum differ."""


@dataclass(frozen=True)
class Bound:
    """What counts of one pipeline."""

    until: datetime | None = None
    """The end of the newest interval. None: all."""
    additions: int | None = None
    """The number of the last transaction whose labels count. None: all."""


Bounds = Mapping[str, Bound]
"""By pipeline."""


@dataclass(frozen=True)
class ComparedRuns:
    """Two runs of one interval."""

    interval: str
    champion_run: str
    challenger_run: str


@dataclass(frozen=True)
class PipelineEvidence:
    """What the challenger has shown in one pipeline."""

    pipeline: str
    until: str
    """End of the newest compared interval. Empty: there is none, or the pipeline has no intervals."""
    rows: int
    labelled: int
    metrics: dict[str, tuple[float, float]]
    """Of the champion and of the challenger, on the same labelled rows."""
    flips: int | None
    checks: tuple[Check, ...]
    runs: tuple[ComparedRuns, ...]
    additions: int | None = None
    """The number of the last transaction that had added labels, so that those that are collected later do not count.
    None: the pipeline declares none, or the document is from before 0.2."""

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)


@dataclass(frozen=True)
class Evidence:
    """What the challenger has shown in every pipeline that promotes the model."""

    model: str
    alias: str
    champion: str
    """The version that the alias names."""
    candidate: str
    champion_digest: str
    candidate_digest: str
    as_of: str
    """Labels that were seen by then count."""
    pipelines: tuple[PipelineEvidence, ...]

    @property
    def passed(self) -> bool:
        return all(each.passed for each in self.pipelines)

    @property
    def failures(self) -> tuple[str, ...]:
        """The requirements that are not met, a line each."""
        return tuple(
            f"{each.pipeline}: {check.requirement} {check.found}, wanted {check.wanted}"
            for each in self.pipelines
            for check in each.checks
            if not check.passed
        )

    def to_json(self) -> str:
        """Return the document."""
        document = asdict(self)
        for each in document["pipelines"]:
            if each["additions"] is None:  # documents of older questions lack it, and their digest must stay
                del each["additions"]
        return json.dumps(document, sort_keys=True, ensure_ascii=False)

    @property
    def digest(self) -> str:
        """The sha256 of the document."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def read_bounds(document: str) -> Bounds:
    """Return the intervals and labels that a stored document is about."""
    return {
        each["pipeline"]: Bound(datetime.fromisoformat(each["until"]) if each["until"] else None, each.get("additions"))
        for each in json.loads(document)["pipelines"]
    }


@dataclass(frozen=True)
class EvidenceReader:
    """What is needed to gather evidence."""

    promoting: PromotingPipelines
    settings: Settings
    connect: Connector
    registry: Registry

    def gather(
        self, champion: ModelPin, candidate: ModelPin, as_of: datetime, bounds: Bounds | None = None
    ) -> Evidence:
        """Compare the two versions in every pipeline.

        Args:
            as_of: Labels that were seen by then count.
            bounds: The intervals and labels to compare with. None: all of them.
        """
        found = tuple(
            self._gather_one(
                each,
                champion,
                candidate,
                as_of,
                self._bound_now(each) if bounds is None else bounds.get(each.name, Bound()),
            )
            for each in self.promoting.pipelines
        )
        return Evidence(
            self.promoting.model,
            self.promoting.alias,
            champion.version,
            candidate.version,
            champion.digest,
            candidate.digest,
            iso(as_of),
            found,
        )

    def _bound_now(self, pipeline: Pipeline) -> Bound:
        """Return the bound of all intervals, and of the labels that have been collected."""
        database = self.connect(pipeline.destination.connection)
        if pipeline.labels is None:
            return Bound()
        source = read_label_source(database, pipeline.name) if has_ledger(database) else None
        return Bound(additions=source.additions if source else 0)

    def _gather_one(
        self, pipeline: Pipeline, champion: ModelPin, candidate: ModelPin, as_of: datetime, bound: Bound
    ) -> PipelineEvidence:
        promotion = pipeline.promotion
        assert promotion is not None
        database = self.connect(pipeline.destination.connection)
        paired = _find_published_pairs(database, pipeline.name, champion, candidate, bound.until)
        pairs = paired.pairs if paired else ()
        shown = self._measure(database, pipeline, paired, as_of, bound.additions) if paired else _NOTHING
        ends = [pair.a.interval_end for pair in pairs if pair.a.interval_end is not None]
        return PipelineEvidence(
            pipeline.name,
            iso(max(ends)) if ends else "",
            shown.rows,
            shown.labelled,
            dict(shown.metrics),
            shown.flips,
            judge_gate(promotion.require, shown),
            tuple(ComparedRuns(pair.label, pair.a.run_id, pair.b.run_id) for pair in pairs),
            bound.additions,
        )

    def _measure(
        self, database: Database, pipeline: Pipeline, paired: PairedRuns, as_of: datetime, additions: int | None
    ) -> Shown:
        rows = compare_rows(database, pipeline, paired, {})
        labelled, metrics, problem = self._measure_labelled(database, pipeline, rows, as_of, additions)
        drifted, uncounted = _read_drift(database, pipeline, paired.pairs)
        return Shown(
            len(paired.pairs),
            sum(pair.both for pair in rows.pairs),
            labelled,
            metrics,
            sum(pair.flips for pair in rows.pairs) if rows.columns.decisions else None,
            drifted,
            uncounted,
            problem,
        )

    def _measure_labelled(
        self, database: Database, pipeline: Pipeline, rows: PairedRows, as_of: datetime, additions: int | None
    ) -> tuple[int, dict[str, tuple[float, float]], str]:
        """Return the number of labelled rows, the metrics of both on them, and why there are none."""
        if pipeline.labels is None:
            return 0, {}, ""
        asked = make_question(pipeline, self.settings, self.registry, as_of, as_of)
        question = replace(asked, upto=additions)
        try:
            found = measure_labelled(database, rows, question)
        except (LabelValue, ModelNotFound, NotMeasured) as error:
            return 0, {}, str(error)
        if found is None:
            return 0, {}, "no label was collected, or the model is neither binary nor a regression"
        both = {
            name: (round(found.metrics_a[name].value, DECIMALS), round(found.metrics_b[name].value, DECIMALS))
            for name in sorted(found.metrics_a.keys() & found.metrics_b.keys())
        }
        problem = found.pruned.describe(pipeline.timezone) if found.pruned and not found.judged else ""
        return found.judged, both, problem


_NOTHING = Shown(0, 0, 0, {}, None, (), 0, "no interval was scored by both")


def _find_published_pairs(
    database: Database, pipeline: str, champion: ModelPin, candidate: ModelPin, end: datetime | None
) -> PairedRuns | None:
    """Return the intervals of which a run of each version is published. None if there is no such interval."""
    try:
        paired = find_pairs(database, pipeline, str(champion), str(candidate), None, end)
    except CompareRefused:
        return None
    pairs = tuple(pair for pair in paired.pairs if pair.a.state == "published" == pair.b.state)
    return replace(paired, pairs=pairs) if pairs else None


def _read_drift(database: Database, pipeline: Pipeline, pairs: tuple[RunPair, ...]) -> tuple[tuple[str, ...], int]:
    """Return the columns with an alarm, and the number of champions' runs that were not counted."""
    if pipeline.drift is None:
        return (), 0
    labels = {run.run_id: pair.label for pair in pairs for run in (pair.a, pair.b)}
    found = list_alarms(database, tuple(labels))
    drifted = tuple(f"{column} in {labels[run_id]}" for run_id, columns in found.items() for column in columns)
    return drifted, sum(pair.a.run_id not in found for pair in pairs)
