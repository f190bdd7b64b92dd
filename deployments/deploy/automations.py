"""The automations on a Prefect server: notify of halts and failures, and end runs whose process died."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.objects import BlockDocument, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import AutomationSort, DeploymentSort
from prefect.events.actions import ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import Automation, AutomationCore, CompoundTrigger, EventTrigger, Posture

from penstock.deployments.deploy.changes import Change
from penstock.deployments.worker.process import HEARTBEAT_SECONDS
from penstock.errors import SettingsError, nearest
from penstock.promotion.specs import PromotingPipelines, group_by_model
from penstock.spec.parts import write_duration
from penstock.spec.pipeline import Pipeline
from penstock.tasks.deployed import PROMOTION_ENTRYPOINT
from penstock.tasks.events import DELIVERY_FAILED, FLOW_RUN_FAILED, PERFORMANCE_ALERT

PREFIX = "penstock: "
"""Prefix of our automations' names. Together with the tag it marks them as ours."""
TAG = "penstock"
WITHOUT_PROCESS = (
    *("Completed", "Failed", "Crashed", "Cancelled", "TimedOut"),
    *("Suspended", "AwaitingRetry"),  # the process has ended, and another one goes on later
    *("Halted", "Skipped", "Planned"),  # of workers that still have Penstock 0.1
)
"""Names of the states in which a flow run has no process. In another state, Paused too, it sends heartbeats."""

PAGE = 200
LINK = "{% set page = flow_run|ui_url %}{% if page %}\n\nFlow run: {{ page }}{% endif %}"


def define_automations(pipeline: Pipeline, blocks: Mapping[str, UUID]) -> tuple[AutomationCore, ...]:
    """Return the automations of one pipeline. `blocks` has the ids of the blocks in its `notify:`."""
    made = []
    if pipeline.notify.on_halt:
        made.append(_on_halt(pipeline, blocks))
    if pipeline.notify.on_failure:
        made.append(_on_failure(pipeline, blocks))
    if pipeline.notify.on_drift:
        made.append(_on_drift(pipeline, blocks))
    if pipeline.notify.on_performance:
        made.append(_on_performance(pipeline, blocks))
    if pipeline.notify.on_delivery:
        made.append(_on_delivery(pipeline, blocks))
    return tuple(made)


def define_zombie_automation(heartbeat_seconds: int = HEARTBEAT_SECONDS) -> AutomationCore:
    """Return the automation that sets a flow run to Crashed after three missed heartbeats.

    Without it, Prefect shows a run whose worker died as Running for ever.
    """
    patience = 3 * heartbeat_seconds
    heartbeat = "prefect.flow-run.heartbeat"
    return AutomationCore(
        name=f"{PREFIX}zombie runs",
        description=f"Sets a flow run of Penstock to Crashed after {patience} s without a heartbeat.",
        tags=[TAG],
        trigger=EventTrigger(
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={"prefect.resource.id": f"prefect.tag.{TAG}"},
            for_each={"prefect.resource.id"},
            after={heartbeat},
            expect={heartbeat, *(f"prefect.flow-run.{state}" for state in WITHOUT_PROCESS)},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=patience),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message=f"no heartbeat for {patience} s: its process is gone. "
                "What it published stays, and the next run scores what is missing once its lease has ended. "
                "A restate must be started again: `penstock doctor` names the command.",
            )
        ],
    )


def define_lapse_automation(promoting: PromotingPipelines) -> AutomationCore:
    """Return the automation that ends a promotion's flow run if no answer comes in time.

    It is cancelled: nothing was decided. A timeout of Prefect's own would end it as Failed.
    """
    within = promoting.promotion.answer_within
    ended = ("Completed", "Failed", "Crashed", "Cancelled", "Cancelling")
    return AutomationCore(
        name=_lapse_name(promoting.model),
        description=f"Ends a promotion of {promoting.model} that has no answer after {write_duration(within)}.",
        tags=[TAG],
        trigger=EventTrigger(
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related=[
                {"prefect.resource.role": "deployment", "prefect.resource.name": promoting.model},
                {"prefect.resource.role": "flow", "prefect.resource.name": "promote"},
            ],
            for_each={"prefect.resource.id"},
            after={"prefect.flow-run.Suspended"},
            expect={f"prefect.flow-run.{state}" for state in ("Resuming", "Pending", "Running", *ended)},
            posture=Posture.Proactive,
            threshold=1,
            within=within,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CANCELLED,
                message=f"Lapsed: there was no answer within {write_duration(within)}. The next run asks again.",
            )
        ],
    )


def find_blocks(client: SyncPrefectClient, pipelines: Sequence[Pipeline]) -> dict[str, UUID]:
    """Return the ids of the notification blocks that the pipelines name.

    Raises:
        SettingsError: the server has no such block, or the block cannot send messages.
    """
    wanted = {block: p for p in pipelines for block in p.notify.blocks}
    known = {_block_name(block): block.id for block in _notification_blocks(client)}
    for block, pipeline in wanted.items():
        if block not in known:
            kind, _, name = block.partition("/")
            raise SettingsError(
                f"pipeline `{pipeline.name}` notifies `{block}`, and this Prefect server has no notification block "
                "of that name",
                f"{nearest(block, tuple(known))} Run `prefect block create {kind}`, which links to the page for "
                f"creating it, and name it `{name}`; or remove it from `notify:`.".lstrip(),
            )
    return {block: known[block] for block in wanted}


def apply_automations(
    client: SyncPrefectClient, pipelines: Sequence[Pipeline], *, whole_folder: bool, dry_run: bool
) -> tuple[Change, ...]:
    """Make the server's automations match the pipelines. Return what changed or would change.

    Our automations without a definition are removed: those of these pipelines and, if they are the whole folder, those
    of pipelines without a deployment. An automation that a person paused stays paused.

    Raises:
        SettingsError: a block to notify is missing. Nothing was changed.
    """
    blocks = find_blocks(client, pipelines)
    wanted = [define_zombie_automation()]
    wanted += [automation for pipeline in pipelines for automation in define_automations(pipeline, blocks)]
    asking = [each for each in group_by_model(pipelines).values() if each.promotion.approval == "person"]
    wanted += [define_lapse_automation(each) for each in asking]
    found = [a for a in _automations(client) if a.name.startswith(PREFIX) and TAG in a.tags]
    changes = []
    for automation in wanted:
        same_name = [other for other in found if other.name == automation.name]
        changes.append(_put(client, automation, same_name[0] if same_name else None, dry_run))
        found = [other for other in found if other not in same_name[:1]]
    gone = {name for pipeline in pipelines for name in _names(pipeline.name)}
    gone |= {
        _lapse_name(model) for model in group_by_model(pipelines)
    }  # of others, a pipeline elsewhere may promote them
    if whole_folder:
        # Other projects may share the server, so keep automations of pipelines and models that have a deployment.
        deployed = {name for deployment in _deployments(client) for name in _names_of(deployment)}
        gone |= {orphan.name for orphan in found} - deployed
    for orphan in found:
        if orphan.name in gone:
            changes.append(Change("removed", _what(orphan)))
            if not dry_run:
                client.delete_automation(orphan.id)
    return tuple(changes)


_RUN = "{{ event.payload.message }}\n\nRun {{ event.payload.run_id }}, model {{ event.payload.model }}." + LINK


def _on_halt(pipeline: Pipeline, blocks: Mapping[str, UUID]) -> AutomationCore:
    subject = f"{pipeline.name} halted: {{{{ event.payload.interval }}}}"
    when = f"a gate halts an interval of {pipeline.name}"
    told = _tell(pipeline.notify.on_halt, blocks, when, subject, _RUN)
    return AutomationCore(name=_names(pipeline.name)[0], trigger=_own_event(pipeline, "penstock.run.halted"), **told)


def _on_failure(pipeline: Pipeline, blocks: Mapping[str, UUID]) -> AutomationCore:
    """Return the automation that sends one message per flow run that failed or whose process died.

    A flow run that failed says so by an event of ours. Prefect ends the others as Crashed: those of a process that
    died, did not start or could not import the flow.
    """
    died = EventTrigger(
        expect={"prefect.flow-run.Crashed", "prefect.flow-run.TimedOut"},
        match={"prefect.resource.id": "prefect.flow-run.*"},
        match_related=[
            {"prefect.resource.role": "deployment", "prefect.resource.name": pipeline.name},
            {"prefect.resource.role": "flow", "prefect.resource.name": "score"},
        ],
    )
    trigger = CompoundTrigger(require="any", triggers=[_own_event(pipeline, FLOW_RUN_FAILED), died])
    subject = f"{pipeline.name} failed: {{{{ flow_run.name }}}}"
    body = (
        "{{ event.payload.message or flow_run.state.message }}\n\n"
        "Published intervals stay as they are, and the next run tries the missing ones again." + LINK
    )
    when = f"a run of {pipeline.name} fails or its process dies"
    told = _tell(pipeline.notify.on_failure, blocks, when, subject, body)
    return AutomationCore(name=_names(pipeline.name)[1], trigger=trigger, **told)


def _on_drift(pipeline: Pipeline, blocks: Mapping[str, UUID]) -> AutomationCore:
    subject = f"{pipeline.name} drifts: {{{{ event.payload.interval }}}}"
    when = f"a column of {pipeline.name} begins to drift"
    told = _tell(pipeline.notify.on_drift, blocks, when, subject, _RUN)
    return AutomationCore(name=_names(pipeline.name)[2], trigger=_own_event(pipeline, "penstock.run.drifted"), **told)


def _on_performance(pipeline: Pipeline, blocks: Mapping[str, UUID]) -> AutomationCore:
    subject = f"{pipeline.name}: {{{{ event.payload.metric }}}} beyond its limit"
    body = "{{ event.payload.message }}\n\nSee `penstock monitor performance " + pipeline.name + "`."
    when = f"the performance of {pipeline.name} goes beyond a limit"
    told = _tell(pipeline.notify.on_performance, blocks, when, subject, body)
    return AutomationCore(name=_names(pipeline.name)[3], trigger=_own_event(pipeline, PERFORMANCE_ALERT), **told)


def _on_delivery(pipeline: Pipeline, blocks: Mapping[str, UUID]) -> AutomationCore:
    subject = f"{pipeline.name}: {{{{ event.payload.target }}}} does not get its rows"
    body = "{{ event.payload.message }}\n\nSee `penstock deliver list " + pipeline.name + "`."
    when = f"a target of {pipeline.name} does not get its rows"
    told = _tell(pipeline.notify.on_delivery, blocks, when, subject, body)
    return AutomationCore(name=_names(pipeline.name)[4], trigger=_own_event(pipeline, DELIVERY_FAILED), **told)


def _tell(asked: Sequence[str], blocks: Mapping[str, UUID], when: str, subject: str, body: str) -> dict[str, Any]:
    """Return the parts of an automation that sends a message through each of the blocks."""
    names = tuple(dict.fromkeys(asked))
    messages = [SendNotification(block_document_id=blocks[name], subject=subject, body=body) for name in names]
    return {"description": f"Notifies {', '.join(names)} when {when}.", "tags": [TAG], "actions": messages}


def _own_event(pipeline: Pipeline, event: str) -> EventTrigger:
    return EventTrigger(expect={event}, match={"prefect.resource.id": f"penstock.pipeline.{pipeline.name}"})


def _put(client: SyncPrefectClient, automation: AutomationCore, existing: Automation | None, dry_run: bool) -> Change:
    what = _what(automation)
    if existing is None:
        if not dry_run:
            client.create_automation(automation)
        return Change("created", what, (automation.description,))
    before, after = existing.model_dump(), automation.model_dump()
    differing = [field for field in ("description", "tags", "trigger", "actions") if before[field] != after[field]]
    if not differing:
        return Change("unchanged", what)
    if not dry_run:
        # Validate from a dump, because the client sends only fields that were set. The server refuses an owner.
        after = {name: value for name, value in after.items() if name != "owner_resource"}
        whole = AutomationCore.model_validate(after | {"enabled": existing.enabled})
        client.update_automation(existing.id, whole)
    shown = {"description": f"{existing.description} → {automation.description}"}
    return Change("updated", what, tuple(shown.get(field, f"{field} differs") for field in differing))


def _automations(client: SyncPrefectClient) -> Iterator[Automation]:
    offset = 0
    while page := client.read_automations(sort=AutomationSort.NAME_ASC, limit=PAGE, offset=offset):
        yield from page
        offset += len(page)


def _deployments(client: SyncPrefectClient) -> Iterator[DeploymentResponse]:
    ours = DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))
    offset = 0
    while page := client.read_deployments(
        deployment_filter=ours, sort=DeploymentSort.NAME_ASC, limit=PAGE, offset=offset
    ):
        yield from page
        offset += len(page)


def _notification_blocks(client: SyncPrefectClient) -> Iterator[BlockDocument]:
    can_notify = {"block_capabilities": {"all_": ["notify"]}}
    offset = 0
    while page := client.request(
        "POST", "/block_documents/filter", json={"block_schemas": can_notify, "limit": PAGE, "offset": offset}
    ).json():
        yield from BlockDocument.model_validate_list(page)
        offset += len(page)


def _block_name(block: BlockDocument) -> str:
    return f"{block.block_type.slug if block.block_type else ''}/{block.name}"


def _names(pipeline: str) -> tuple[str, ...]:
    """Return the names of the automations of a pipeline."""
    return tuple(f"{PREFIX}{pipeline} on {what}" for what in ("halt", "failure", "drift", "performance", "delivery"))


def _lapse_name(model: str) -> str:
    return f"{PREFIX}{model} on lapse"


def _names_of(deployment: DeploymentResponse) -> tuple[str, ...]:
    """Return the names of the automations that belong to a deployment."""
    promotes = deployment.entrypoint == PROMOTION_ENTRYPOINT
    return (_lapse_name(deployment.name),) if promotes else _names(deployment.name)


def _what(automation: AutomationCore) -> str:
    return f"automation {automation.name.removeprefix(PREFIX)}"
