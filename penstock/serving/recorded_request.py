"""What is recorded of a scored request: its rows as text, and the run that they belong to."""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa

from penstock.database.exact_json import write_values
from penstock.database.unstorable import to_records
from penstock.interval import DataInterval
from penstock.labels.key_text import write_keys
from penstock.ledger.served_rows import Layout
from penstock.ledger.served_writes import Answer, NewRequest, NewRun
from penstock.ledger.writer import this_process
from penstock.privacy.masking import MaskingPolicy
from penstock.run_types import Pins
from penstock.serving.scored_request import ScoredRequest
from penstock.spec.pipeline import Pipeline
from penstock.spec.stages import FEATURES, OUTPUTS


@dataclass
class RecordedRequests:
    """Describes the requests of one process, and opens the runs that they belong to. Used from one thread."""

    pipeline: Pipeline
    """As its spec says it."""
    masking: MaskingPolicy
    worker: str = field(default_factory=lambda: uuid.uuid4().hex)
    """The token of this process's leases."""
    _runs: dict[tuple[Any, ...], tuple[Layout, NewRun]] = field(default_factory=dict)

    @property
    def open_runs(self) -> list[str]:
        """The IDs of the runs that requests of now belong to."""
        return [run.run_id for _, run in self._runs.values()]

    def describe(self, scored: ScoredRequest, at: datetime, asked_as: str | None, answer: Answer | None) -> NewRequest:
        """Return what is recorded of a request.

        Args:
            at: when it was answered.
            asked_as: the ID that the client gave it. None: the server has made one.
        """
        own = scored.request.request_id if asked_as is None else uuid.uuid4().hex  # a client may repeat its IDs
        rows = tuple({**row, "asked_as": asked_as} for row in self._describe_rows(scored))
        return NewRequest(self._find_run(scored, at), own, at, rows, answer)

    def _describe_rows(self, scored: ScoredRequest) -> list[dict[str, Any]]:
        request, masking = scored.request, self.masking
        keys = write_keys(request.primary, scored.pipeline.key, masking)
        features, outputs = iter(hide_values(scored.features, masking)), iter(hide_values(scored.outputs, masking))
        rows = []
        for key, row, outcome in zip(keys, hide_values(request.primary, masking), scored.outcomes, strict=True):
            is_scored = outcome.place is not None
            rows.append(
                {
                    "key": key,
                    "status": outcome.status,
                    "reasons": None if is_scored else _write(list(outcome.reasons)),
                    "outputs": _write(next(outputs)) if is_scored else None,
                    "primary_row": _write(row),
                    "feature_row": _write(next(features)) if is_scored else None,
                    "other_rows": None,
                    "snapshot": scored.snapshot.digest if scored.snapshot else None,
                }
            )
        if request.is_alone:
            rows[0]["other_rows"] = _write({name: hide_values(t, masking) for name, t in request.others.items()})
            for row in rows[1:]:
                row["other_rows"] = "{}"
        return rows

    def _find_run(self, scored: ScoredRequest, at: datetime) -> NewRun:
        """Return the run of the request's time, models and columns. Without a score, only its own columns count."""
        interval, layout = self._find_interval(at), self._describe_layout(scored)
        key = (interval, tuple(scored.models.items()), tuple(layout.sources.items()))
        known = self._runs.get(key)
        is_scored = any(each.place is not None for each in scored.outcomes)
        if known and (not is_scored or (known[0].features, known[0].outputs) == (layout.features, layout.outputs)):
            return known[1]
        run = self._make_run(interval, scored.models, layout)
        self._runs = {each: opened for each, opened in self._runs.items() if each[:2] == key[:2]}
        self._runs[key] = layout, run
        return run

    def _find_interval(self, at: datetime) -> DataInterval | None:
        spec = self.pipeline.interval
        if spec is None:
            return None
        start = spec.grid.align_down(at)
        return DataInterval(start, spec.grid.next(at), spec.timezone)

    def _describe_layout(self, scored: ScoredRequest) -> Layout:
        tables = {scored.pipeline.primary: scored.request.primary, **scored.request.others}
        parts = {**tables, FEATURES: scored.features, OUTPUTS: scored.outputs}
        hidden = {name: tuple(c for c in each.column_names if self.masking.hides([c])) for name, each in parts.items()}
        schemas = {name: each.schema.remove_metadata() for name, each in parts.items()}
        sources = {name: schemas[name] for name in tables}
        known = {part: columns for part, columns in hidden.items() if columns}
        return Layout(sources, schemas[FEATURES], schemas[OUTPUTS], known)

    def _make_run(self, interval: DataInterval | None, pins: Pins, layout: Layout) -> NewRun:
        spec = self.pipeline
        return NewRun(
            run_id=uuid.uuid4().hex,
            worker=self.worker,
            owner=this_process(),
            interval=interval,
            pins=pins,
            is_chain=bool(spec.models),
            spec_fingerprint=spec.fingerprint,
            scoring=spec.scoring_fingerprint,
            layout=layout.write(),
            table=spec.destination.table,
            schema=spec.destination.schema_,
        )


def hide_values(rows: pa.Table, masking: MaskingPolicy) -> list[dict[str, Any]]:
    """Return rows as JSON has them, private columns hashed or left out as in the quarantine."""
    values = write_values(rows)
    private = [name for name in rows.column_names if masking.hides([name])]
    if not private:
        return values
    masked = (masking.mask(row) for row in to_records(rows.select(private)))
    shown = ({name: value for name, value in row.items() if name not in private} for row in values)
    return [{**row, **hidden} for row, hidden in zip(shown, masked, strict=True)]


def _write(value: Mapping[str, Any] | Sequence[Any]) -> str:
    return json.dumps(value, ensure_ascii=False)
