"""Write the same deployments as `prefect.yaml`, for users of `prefect deploy`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule

from penstock.deployments.deploy.definition import (
    RECORD_PROJECT,
    Definition,
    define_any_pipeline,
    define_backfill,
    define_pipeline,
    define_promotions,
    pull_steps,
)
from penstock.deployments.deploy.specs import load_specs
from penstock.settings import Settings

HEADER = """\
# Written by `penstock deploy --prefect-yaml`; do not edit. To deploy with Prefect's own command, run in the project's
# folder:
#
#   prefect work-pool create penstock --type process
#   prefect deploy --all --prefect-file deployments/prefect.yaml
#
# Both ways give the same deployments. Only `penstock deploy` also creates the work pool, with a command that starts
# flow runs seconds sooner; fixes the pipeline in each form (else only the flow refuses another); removes schedules
# and deployments that have no spec any more; keeps pauses and job variables that a person set; creates the automations
# of `notify:`; and changes nothing if you repeat it.
"""


class _Dumper(yaml.SafeDumper):
    """Writes multi-line texts as blocks, and no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _write_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _write_text)


def render_prefect_yaml(settings: Settings, files: Sequence[Path] | None) -> str:
    """Return the text of a `prefect.yaml` for pipeline files, or for the whole folder.

    Raises:
        SpecError, SpecErrors: specs do not load.
        PromotionsDiffer: two pipelines say different things about one model.
    """
    specs = load_specs(settings, files)
    definitions = [each for file, spec in specs.items() for each in define_pipeline(spec, str(file))]
    definitions += define_promotions(specs.values(), str(settings.pipelines))
    definitions += [define_any_pipeline(), define_backfill()]
    body = {
        "name": "penstock",
        # `prefect deploy` records the folder. A shared file must not contain a path of one machine.
        "build": [{RECORD_PROJECT: {"id": "project"}}],
        "pull": pull_steps("{{ project.folder }}"),
        "deployments": [_write_definition(definition) for definition in definitions],
    }
    return HEADER + yaml.dump(body, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def _write_definition(definition: Definition) -> dict[str, Any]:
    written: dict[str, Any] = {
        "name": definition.name,
        "entrypoint": definition.entrypoint,
        "description": definition.description,
        "version": definition.version,
        "tags": list(definition.tags),
        "parameters": definition.parameters,
        "enforce_parameter_schema": definition.enforce_parameter_schema,
        "work_pool": {"name": definition.work_pool, "job_variables": definition.job_variables},
    }
    if definition.concurrency_options is not None:
        written["concurrency_limit"] = {"limit": definition.concurrency_limit} | definition.concurrency_options
    active = {} if definition.active is None else {"active": definition.active}
    written["schedules"] = [] if definition.schedule is None else [_write_schedule(definition.schedule) | active]
    return written


def _write_schedule(schedule: Any) -> dict[str, Any]:
    match schedule:
        case CronSchedule():
            return {"cron": schedule.cron, "timezone": schedule.timezone}
        case IntervalSchedule():
            return {
                "interval": int(schedule.interval.total_seconds()),
                "anchor_date": schedule.anchor_date.isoformat(),
                "timezone": schedule.timezone,
            }
        case RRuleSchedule():
            return {"rrule": schedule.rrule, "timezone": schedule.timezone}
    raise TypeError(f"no such schedule in prefect.yaml: {schedule!r}")
