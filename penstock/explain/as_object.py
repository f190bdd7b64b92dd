"""One score as an object for JSON, with everything that is known about it."""

import json
from dataclasses import asdict
from typing import Any

from penstock.explain.one_score import Explanation
from penstock.report.document import run_object
from penstock.spec.pipeline import Pipeline


def explanation_object(pipeline: Pipeline, found: Explanation) -> dict[str, Any]:
    """Return the explanation with plain values, for JSON."""
    record, shown = found.record, found.record.shown
    return {
        "pipeline": pipeline.name,
        "key": dict(record.row_key.values),
        "run": run_object(shown.run, None, None) if shown else None,
        "spec_changed": shown is not None and shown.run.spec_fingerprint != pipeline.fingerprint,
        "columns": shown.columns if shown else None,
        "reasons": [asdict(reason) for reason in record.reasons],
        "origin": found.origin if shown else None,
        "absence": found.absence or None,
        "refusals": [asdict(row) | {"fate": row.fate} for row in record.refusals],
        "notes": record.notes,
        "promotions": [asdict(promotion) for promotion in found.promotions],
        "moves": [asdict(move) for move in record.moves],
        "forgotten_at": record.forgotten_at,
        "seal": record.seal or None,
        "labels": [{"value": json.loads(label.value), "seen_at": label.seen_at} for label in record.labels],
        "drift": [
            {
                "column": each.profile.column,
                "alarm": each.profile.alarm,
                "psi": each.psi,
                "null_change": each.null_change,
            }
            for each in record.drift.compared
        ],
        "others": [
            {
                "run_id": other.run.run_id,
                "interval": other.run.interval_key,
                "variant": other.run.variant,
                "state": other.run.state,
                "models": other.run.models,
                "columns": other.columns,
            }
            for other in record.others
        ],
        "served": [
            {
                "run_id": row.run.run_id,
                "request_id": row.request_id,
                "seq": row.seq,
                "recorded_at": row.recorded_at,
                "status": row.status,
                "model": str(row.run.model),
                "outputs": row.outputs,
                "reasons": row.reasons,
            }
            for row in record.served
        ],
    }
