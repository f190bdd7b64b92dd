"""Answers in Penstock's own format: a status for each row, its outputs or why it has none, and what scored it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import orjson
from starlette.responses import Response

from penstock.interval import iso
from penstock.run_types import ModelPin, deciding_model
from penstock.serving.scored_request import ScoredRequest

if TYPE_CHECKING:
    from penstock.serving.served_pipeline import ServedPipeline

JSON = "application/json"


def json_response(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Write a body as JSON. Numbers that are not finite become null, decimals text."""
    content = orjson.dumps(body, default=_write, option=orjson.OPT_NON_STR_KEYS)  # names of columns are a kind of str
    return Response(content, status, headers, JSON)


def _write(value: Any) -> str:
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(type(value).__name__)


def answer_rows(scored: ScoredRequest, reasons: list[list[dict[str, Any]]] | None = None) -> dict[str, Any]:
    """Return the answer to a request, row by row.

    Args:
        reasons: of each scored row, the features that moved its score most; None: they are not asked for.
    """
    outputs = iter(scored.outputs.to_pylist())
    rows: list[dict[str, Any]] = []
    explained = iter(reasons or ())
    for outcome in scored.outcomes:
        if outcome.place is None:
            rows.append({"status": outcome.status, "reasons": list(outcome.reasons)})
            continue
        rows.append({"status": outcome.status, "outputs": next(outputs)})
        if reasons is not None:
            rows[-1]["reasons"] = next(explained)
    answer: dict[str, Any] = {"request_id": scored.request.request_id, "pipeline": scored.pipeline.name, "rows": rows}
    answer |= describe_models(scored)
    if scored.snapshot is not None:
        answer["snapshot"] = {"digest": scored.snapshot.digest, "taken_at": iso(scored.snapshot.taken_at)}
    if scored.left_out:
        answer["left_out"] = [
            {"source": each.source, "key": each.key, "reasons": [reason.text for reason in each.reasons]}
            for each in scored.left_out
        ]
    return answer


def describe_snapshot(served: "ServedPipeline") -> dict[str, Any]:
    """Return what a server holds of the other sources, for `/ready`. Empty: it holds nothing of any."""
    if not served.pipeline.holds_snapshot:
        return {}
    snapshot = served.snapshot
    described: dict[str, Any] = {"problem": served.snapshot_problem or None}
    if snapshot is not None:
        described |= {
            "taken_at": iso(snapshot.taken_at),
            "age_seconds": round(snapshot.age(datetime.now(UTC)), 1),
            "digest": snapshot.digest,
            "bytes": snapshot.nbytes,
            "rows": {name: table.num_rows for name, table in snapshot.tables.items()},
            "left_out": dict(snapshot.refused),
        }
    return {"snapshot": described}


def describe_models(scored: ScoredRequest) -> dict[str, Any]:
    """Return the version that decides, and with several steps that of each step."""
    described: dict[str, Any] = {"model": describe_pin(deciding_model(scored.models))}
    if scored.pipeline.models:
        described["steps"] = {step: describe_pin(pin) for step, pin in scored.models.items()}
    return described


def describe_pin(pin: ModelPin) -> dict[str, str]:
    return {"name": pin.name, "version": pin.version, "digest": pin.digest}
