"""Make one deployment on a Prefect server match its definition.

A deploy leaves two things as a person set them: job variables other than our own, and whether a deployment or its
schedule is paused, unless the spec has `active:` (a changed schedule stays paused, and the change says so).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import SCHEDULE_TYPES, CronSchedule, IntervalSchedule, RRuleSchedule
from prefect.exceptions import ObjectNotFound
from prefect.utilities.callables import parameter_schema
from prefect.utilities.importtools import import_object

from penstock.deployments.deploy.changes import Change
from penstock.deployments.deploy.definition import Definition, pull_steps, recorded_folder

SHOWN_IN_FULL = (
    "version",
    "tags",
    "entrypoint",
    "parameters",
    "enforce_parameter_schema",
    "work_pool_name",
    "concurrency_limit",
)
"""Short fields, shown with both values. Of other fields only the fact of a change is shown."""

FIXED = {
    "pipeline": "This deployment scores only its own pipeline.",
    "model": "This deployment promotes only its own model.",
}
"""The form's help of the parameters that take one value."""
SERVERS_BEGIN = "DTSTART:20200101T000000"


@dataclass(frozen=True)
class Reconciliation:
    """A definition, and the server's deployment of the same name."""

    definition: Definition
    folder: str
    existing: DeploymentResponse | None

    @cached_property
    def wanted(self) -> dict[str, Any]:
        """The fields in the form that the API takes."""
        definition = self.definition
        return {
            "version": definition.version,
            "description": definition.description,
            "tags": list(definition.tags),
            "entrypoint": definition.entrypoint,
            "parameters": definition.parameters,
            "parameter_openapi_schema": read_form(definition.entrypoint, definition.fixed),
            "enforce_parameter_schema": definition.enforce_parameter_schema,
            "pull_steps": pull_steps(self.folder),
            "work_pool_name": definition.work_pool,
            "concurrency_limit": definition.concurrency_limit,
            "concurrency_options": definition.concurrency_options,
            "job_variables": _add_variables(self.existing, definition.job_variables),
        }

    def differences(self) -> list[str]:
        """Return one line for each field that differs on the server, without schedules."""
        if self.existing is None:
            return []
        found = read_fields(self.existing)
        differing = [name for name in self.wanted if found[name] != self.wanted[name]]
        return [_describe_difference(name, found[name], self.wanted[name]) for name in differing]

    def apply(self, client: SyncPrefectClient, *, dry_run: bool) -> Change:
        """Create or update the deployment, if anything differs."""
        what = f"deployment {self.definition.full_name}"
        schedule = self.definition.schedule
        if self.existing is None:
            if not dry_run:
                self._create(client)
            paused = " (paused)" if self.definition.active is False else ""
            return Change("created", what, (f"schedule: {describe_schedule(schedule)}{paused}",) if schedule else ())
        details = self.differences()
        if details and not dry_run:
            client.update_deployment(self.existing.id, DeploymentUpdate.model_validate(self.wanted))
        active = self.definition.active
        details += reconcile_schedules(client, self.existing, schedule, active=active, dry_run=dry_run)
        return Change("updated" if details else "unchanged", what, tuple(details))

    def _create(self, client: SyncPrefectClient) -> None:
        created = client.create_deployment(
            flow_id=client.create_flow_from_name(self.definition.flow), name=self.definition.name, **self.wanted
        )
        if self.definition.schedule is not None:
            client.create_deployment_schedules(
                created, [(self.definition.schedule, self.definition.active is not False)]
            )


def read_existing(client: SyncPrefectClient, full_name: str) -> DeploymentResponse | None:
    """Return the deployment of a name, if the server has one."""
    try:
        return client.read_deployment_by_name(full_name)
    except ObjectNotFound:
        return None


def read_fields(deployment: DeploymentResponse) -> dict[str, Any]:
    """Return the fields of a deployment that a definition sets."""
    limit, options = deployment.global_concurrency_limit, deployment.concurrency_options
    return {
        "version": deployment.version,
        "description": deployment.description,
        "tags": list(deployment.tags),
        "entrypoint": deployment.entrypoint,
        "parameters": deployment.parameters,
        "parameter_openapi_schema": deployment.parameter_openapi_schema,
        "enforce_parameter_schema": deployment.enforce_parameter_schema,
        "pull_steps": deployment.pull_steps,
        "work_pool_name": deployment.work_pool_name,
        "concurrency_limit": limit.limit if limit else None,
        "concurrency_options": options.model_dump(mode="json") if options else None,
        "job_variables": deployment.job_variables,
    }


def read_form(entrypoint: str, fixed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema of a flow's parameters, which is its form in the UI.

    Args:
        fixed: Parameters that take only this value. They are marked as Prefect's own `freeze` marks them.
    """
    form = parameter_schema(import_object(entrypoint)).model_dump(mode="json", exclude_unset=True)
    for name, value in fixed.items():
        form["properties"][name] |= {"readOnly": True, "enum": [value], "description": FIXED[name]}
    return form


def reconcile_schedules(
    client: SyncPrefectClient,
    deployment: DeploymentResponse,
    wanted: SCHEDULE_TYPES | None,
    *,
    active: bool | None,
    dry_run: bool,
) -> list[str]:
    """Give the deployment the wanted schedule and no other. Return one line for each change.

    Args:
        active: Whether the schedule starts runs. None: as it is.
    """
    existing = deployment.schedules
    same = [schedule for schedule in existing if _is_same(schedule.schedule, wanted) and not schedule.parameters]
    kept: DeploymentSchedule | None = None if wanted is None else next(iter(same or existing), None)
    details = []
    if wanted is not None and not same:
        old = describe_schedule(kept.schedule) if kept else "none"
        paused = ""
        if kept is not None and not kept.active and active is None:
            paused = " (stays paused until `penstock resume`)"
        elif kept is None and active is False:
            paused = " (paused)"
        details.append(f"schedule: {old} → {describe_schedule(wanted)}{paused}")
        if kept is None and not dry_run:
            client.create_deployment_schedules(deployment.id, [(wanted, active is not False)])
        elif kept is not None and not dry_run:
            client.update_deployment_schedule(deployment.id, kept.id, schedule=wanted, parameters={})
    if active is not None and wanted is not None:
        details += _set_active(client, deployment, kept, active, dry_run=dry_run)
    for schedule in existing:
        if schedule is not kept:
            details.append(f"schedule: {describe_schedule(schedule.schedule)} → none")
            if not dry_run:
                client.delete_deployment_schedule(deployment.id, schedule.id)
    return details


def _set_active(
    client: SyncPrefectClient,
    deployment: DeploymentResponse,
    schedule: DeploymentSchedule | None,
    active: bool,
    *,
    dry_run: bool,
) -> list[str]:
    """Pause or resume a schedule as its spec says. A paused deployment starts no runs either, so resume it too."""
    before = not deployment.paused and (active if schedule is None else schedule.active)
    if before == active:
        return []
    if not dry_run and schedule is not None and schedule.active != active:
        client.update_deployment_schedule(deployment.id, schedule.id, active=active)
    if not dry_run and active and deployment.paused:
        client.resume_deployment(deployment.id)
    return [f"schedule: {_state_word(before)} → {_state_word(active)}"]


def _state_word(active: bool) -> str:
    return "active" if active else "paused"


def describe_schedule(schedule: SCHEDULE_TYPES) -> str:
    """Write a schedule in one line."""
    match schedule:
        case CronSchedule():
            return f"{schedule.cron} {schedule.timezone}"
        case IntervalSchedule():
            return f"every {schedule.interval} {schedule.timezone}"
        case RRuleSchedule():
            return f"{_without_begin(schedule.rrule)} {schedule.timezone}"
    return "never"


def describe_paused_schedules(deployment: DeploymentResponse) -> str:
    """Return `paused (15 2 * * * Europe/Paris)` if a pause keeps all runs from starting. Otherwise return no text."""
    off = [each for each in deployment.schedules if deployment.paused or not each.active]
    if not deployment.paused and (not off or len(off) < len(deployment.schedules)):
        return ""
    schedules = ", ".join(describe_schedule(each.schedule) for each in off)
    return f"paused ({schedules})" if schedules else "paused"


def _add_variables(existing: DeploymentResponse | None, ours: dict[str, Any]) -> dict[str, Any]:
    """Return the deployment's job variables with ours added. `env` is merged by variable."""
    theirs = existing.job_variables if existing else {}
    return theirs | ours | {"env": theirs.get("env", {}) | ours["env"]}


def _is_same(found: SCHEDULE_TYPES, wanted: SCHEDULE_TYPES | None) -> bool:
    if isinstance(found, RRuleSchedule) and isinstance(wanted, RRuleSchedule) and "DTSTART" not in wanted.rrule.upper():
        return (_without_begin(found.rrule), found.timezone) == (wanted.rrule, wanted.timezone)
    return found == wanted


def _without_begin(rrule: str) -> str:
    """Return a rule without the start time that the server adds to a rule without one."""
    begin, _, rule = rrule.partition("\n")
    # Rules of minutes and seconds get a recent start time, so that the server does not count from 2020.
    frequent = "FREQ=MINUTELY" in rule or "FREQ=SECONDLY" in rule
    return rule if begin == SERVERS_BEGIN or (frequent and begin.startswith("DTSTART")) else rrule


def _describe_difference(name: str, old: Any, new: Any) -> str:
    if name == "pull_steps" and recorded_folder(old) == recorded_folder(new):
        name, old, new = "pull step", *(_name_steps(steps) for steps in (old, new))
    elif name == "pull_steps":
        name, old, new = "project", *(_describe_steps(steps) for steps in (old, new))
    elif name not in SHOWN_IN_FULL:
        return f"{name}: changed"
    return f"{name}: {'none' if old is None else old} → {'none' if new is None else new}"


def _name_steps(steps: list[dict[str, Any]]) -> str:
    return ", ".join(name for step in steps for name in step)


def _describe_steps(steps: list[dict[str, Any]] | None) -> str:
    folder = recorded_folder(steps) if steps and len(steps) == 1 else None
    return folder or ("none" if not steps else "other pull steps")
