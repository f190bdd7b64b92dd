"""Emit one Prefect event at the end of a run, for automations. An error here never fails a run."""

import logging
from functools import cache
from typing import Any, Literal

import httpx
from prefect.events import emit_event
from prefect.exceptions import PrefectException
from prefect.runtime import deployment

from penstock.ledger.writer import Totals
from penstock.run_types import ScoringRun, interval_label

Outcome = Literal["published", "halted", "failed"]

logger = logging.getLogger(__name__)

LONGEST_MESSAGE = 4000
"""Most characters of the message, because Prefect drops an event that is too large."""


def announce(run: ScoringRun, outcome: Outcome, message: str, totals: Totals | None = None) -> None:
    """Emit `penstock.run.<outcome>` about the run's pipeline, with labels and a payload for automations.

    The labels of the resource are for matching, the payload is for templates. Prefect's worker sends it in the
    background and adds the flow run.
    """
    pipeline, interval = run.pipeline, run.interval
    named: dict[str, str] = {
        "model": str(run.model),
        "table": pipeline.destination.table,
        "connection": pipeline.destination.connection,
        "variant": run.variant,
    }
    payload: dict[str, Any] = {
        "pipeline": pipeline.name,
        "run_id": run.run_id,
        "interval": interval_label(interval),
        "interval_start": interval.start.isoformat() if interval else None,
        "interval_end": interval.end.isoformat() if interval else None,
        "message": message[:LONGEST_MESSAGE],
        "models": {step: str(pin) for step, pin in run.steps.items()} or {"score": str(run.model)},
        **named,
    }
    if totals is not None:
        payload["rows"] = {
            "extracted": totals.extracted,
            "scored": totals.scored,
            "quarantined": totals.quarantined,
            "excluded": totals.excluded,
        }
    deployment_id, deployment_name = _deployment()
    emit_event(
        event=f"penstock.run.{outcome}",
        resource={
            "prefect.resource.id": f"penstock.pipeline.{pipeline.name}",
            "prefect.resource.name": pipeline.name,
            # Always present: a trigger with `!name` does not match an event without the label.
            "penstock.deployment": deployment_name,
            **{f"penstock.{label}": value for label, value in named.items()},
        },
        related=_deployment_resource(deployment_id, deployment_name),
        payload=payload,
    )


def _deployment() -> tuple[str, str]:
    """Return the id and name of this process's deployment. Both are empty for a run by hand."""
    try:
        return _find_deployment()
    except (PrefectException, httpx.HTTPError, OSError) as error:
        logger.warning("could not find out the deployment of this run: %s", error)
        return "", ""


@cache
def _find_deployment() -> tuple[str, str]:
    """Cached because a process has one deployment or none, and Prefect would ask the server for each interval."""
    found = deployment.id
    return (str(found), str(deployment.name or "")) if found else ("", "")


def _deployment_resource(deployment_id: str, name: str) -> list[dict[str, str]]:
    # The flow run of an interval is a subflow, which Prefect does not relate to the deployment of its parent.
    if not deployment_id:
        return []
    return [
        {
            "prefect.resource.id": f"prefect.deployment.{deployment_id}",
            "prefect.resource.role": "deployment",
            "prefect.resource.name": name,
        }
    ]
