"""Emit Prefect events for automations: at the end of each run, when drift begins, and for a flow run that failed.

An error here never fails a run.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from typing import Any, Literal

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State
from prefect.events import Event, RelatedResource, Resource, emit_event
from prefect.exceptions import PrefectException
from prefect.runtime import deployment

from penstock.errors import Halted
from penstock.interval import DataInterval
from penstock.labels.alerts import Alert
from penstock.ledger.delivery_records import FailingTarget
from penstock.ledger.destinations import LIVE
from penstock.ledger.reader import RunRecord
from penstock.ledger.writer import Totals
from penstock.run_types import Pins, ScoringRun, Validation, interval_label
from penstock.spec.pipeline import Pipeline
from penstock.tasks.deployed import ANY_PIPELINE, own_deployment_id
from penstock.tasks.naming import read_name
from penstock.tasks.outcome import find_outcome, record_outcome

Outcome = Literal["published", "halted", "failed"]
FLOW_RUN_FAILED = "penstock.flow-run.failed"
"""The event of a scoring flow run that failed, once, however many of its intervals failed."""
CHALLENGER_FAILED = "penstock.challenger.failed"
"""The event of a challenger without a published run. Its champion is published."""

PERFORMANCE_ALERT = "penstock.performance.alert"
"""The event of a metric that has gone beyond its limit, once until it is back."""
DELIVERY_FAILED = "penstock.delivery.failed"
"""The event of a target that does not get its rows, once until it has all of them."""

logger = logging.getLogger(__name__)

LONGEST_MESSAGE = 4000
"""Most characters of the message, because Prefect drops an event that is too large."""


def announce(run: ScoringRun, outcome: Outcome, message: str, totals: Totals | None = None) -> None:
    """Emit `penstock.run.<outcome>` about the run's pipeline, with labels and a payload for automations.

    The labels of the resource are for matching, the payload is for templates. Prefect's worker sends it in the
    background and adds the flow run.
    """
    payload = _describe_run(run.run_id, run.interval, run.steps or {"score": run.model}, totals)
    _emit(run.pipeline, outcome, message, {"model": str(run.model), "variant": run.variant}, payload)


def announce_accepted(client: SyncPrefectClient, run: RunRecord, connection: str, message: str) -> None:
    """Send `penstock.run.published` about a halted run that a person has accepted.

    It is sent at once, because the process of a command ends before Prefect's worker would send it.
    """
    counts = (run.rows_extracted, run.rows_scored, run.rows_quarantined, run.rows_excluded)
    payload = _describe_run(run.run_id, run.interval, run.pins, Totals(*(count or 0 for count in counts)))
    named = {"table": run.destination_table, "connection": connection, "model": run.model, "variant": run.variant}
    resource, related = _describe_resource(run.pipeline)
    event = Event(
        event="penstock.run.published",
        resource=Resource(resource | {f"penstock.{label}": value for label, value in named.items()}),
        related=[RelatedResource(each) for each in related],
        payload={"pipeline": run.pipeline, "message": message[:LONGEST_MESSAGE], **payload, **named},
    )
    client.request("POST", "/events", json=[event.model_dump(mode="json")])


def _describe_run(run_id: str, interval: DataInterval | None, pins: Pins, totals: Totals | None) -> dict[str, Any]:
    payload: dict[str, Any] = {
        "run_id": run_id,
        "interval": interval_label(interval),
        "interval_start": interval.start.isoformat() if interval else None,
        "interval_end": interval.end.isoformat() if interval else None,
        "models": {step: str(pin) for step, pin in pins.items()},
    }
    if totals is not None:
        payload["rows"] = {name: count for name, count in asdict(totals).items() if count is not None}
    return payload


def announce_drift(run: ScoringRun, alarms: Sequence[Validation]) -> None:
    """Emit `penstock.run.drifted` about the columns whose drift begins with a run. Without any, emit nothing."""
    if alarms:
        message = "\n".join(f"{alarm.expectation} ({alarm.severity}): {alarm.observed}" for alarm in alarms)
        labels = {"model": str(run.model), "variant": run.variant}
        payload = _describe_run(run.run_id, run.interval, run.steps or {"score": run.model}, None)
        _emit(run.pipeline, "drifted", message, labels, payload)


def announce_challenger(run: ScoringRun, run_id: str | None, model: str, state: str, error: str) -> None:
    """Emit `penstock.challenger.failed` about a challenger that was not published beside its champion.

    Args:
        run: The champion's run.
        run_id: The challenger's run. None if it has none.
        state: `failed`, or `halted` by a gate on its scores.
    """
    resource, related = _describe_resource(run.pipeline)
    about = {"champion_run_id": run.run_id, "run_id": run_id, "model": model, "state": state}
    emit_event(
        event=CHALLENGER_FAILED,
        resource=resource | {"penstock.model": model},
        related=related,
        payload={
            "pipeline": run.pipeline.name,
            "message": error[:LONGEST_MESSAGE],
            "interval": interval_label(run.interval),
            **about,
        },
    )


def announce_halt(pipeline: Pipeline, halt: Halted) -> None:
    """Emit `penstock.run.halted` for a halt before any interval was claimed. It has no run."""
    payload: dict[str, Any] = {
        "run_id": "none",
        "interval": "before the first interval",
        "interval_start": None,
        "interval_end": None,
        "models": {},
    }
    _emit(pipeline, "halted", str(halt), {"model": "none", "variant": LIVE}, payload)


def announce_alert(pipeline: Pipeline, alert: Alert) -> None:
    """Emit `penstock.performance.alert` about a metric that has gone beyond its limit."""
    resource, related = _describe_resource(pipeline)
    payload = {"pipeline": pipeline.name, "metric": alert.metric, "message": alert.message[:LONGEST_MESSAGE]}
    labels = {"penstock.metric": alert.metric}
    emit_event(event=PERFORMANCE_ALERT, resource=resource | labels, related=related, payload=payload)


def announce_delivery(pipeline: Pipeline, failing: FailingTarget) -> None:
    """Emit `penstock.delivery.failed` about a target that began to fail."""
    resource, related = _describe_resource(pipeline)
    payload = {"pipeline": pipeline.name, "target": failing.target, "message": failing.error[:LONGEST_MESSAGE]}
    labels = {"penstock.target": failing.target}
    emit_event(event=DELIVERY_FAILED, resource=resource | labels, related=related, payload=payload)


def end_score(asked: Pipeline | str, state: State[Any], sandbox: str = "") -> State[Any]:
    """Record the outcome of a scoring flow run and return its state. If it failed, emit `penstock.flow-run.failed`.

    `asked` is the pipeline, or the name or path that was asked for if its spec could not be read. A run of a sandbox
    emits nothing.
    """
    outcome = find_outcome(state)
    record_outcome(outcome)
    is_sandbox = bool(sandbox) or (isinstance(asked, Pipeline) and asked.is_sandbox)
    if outcome == "failed" and not is_sandbox:
        resource, related = _describe_resource(asked)
        message = (state.message or "")[:LONGEST_MESSAGE]
        payload = {"pipeline": resource["prefect.resource.name"], "message": message}
        emit_event(event=FLOW_RUN_FAILED, resource=resource, related=related, payload=payload)
    return state


def _emit(
    pipeline: Pipeline,
    what: Outcome | Literal["drifted"],
    message: str,
    labels: Mapping[str, str],
    payload: Mapping[str, Any],
) -> None:
    """Emit an event of a run. A sandbox has none, so that no automation takes it for the pipeline."""
    if pipeline.is_sandbox:
        return
    named = {"table": pipeline.destination.table, "connection": pipeline.destination.connection, **labels}
    resource, related = _describe_resource(pipeline)
    emit_event(
        event=f"penstock.run.{what}",
        resource=resource | {f"penstock.{label}": value for label, value in named.items()},
        related=related,
        payload={"pipeline": pipeline.name, "message": message[:LONGEST_MESSAGE], **payload, **named},
    )


def _describe_resource(asked: Pipeline | str) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Return the resource of a pipeline's events, and the related deployment."""
    deployment_id, deployment_name = _deployment()
    if isinstance(asked, Pipeline):
        name = asked.name
    else:
        name = deployment_name if deployment_name and deployment_name != ANY_PIPELINE else read_name(asked)
    resource = {
        "prefect.resource.id": f"penstock.pipeline.{name}",
        "prefect.resource.name": name,
        # Always present: a trigger with `!name` does not match an event without the label.
        "penstock.deployment": deployment_name,
    }
    return resource, _deployment_resource(deployment_id, deployment_name)


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
    found = own_deployment_id()
    return (found, str(deployment.name or "")) if found else ("", "")


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
