"""`penstock resume`: start pipelines' schedules in Prefect again."""

import typer

from penstock.cli.arguments import Timezone
from penstock.cli.opening import open_settings
from penstock.cli.output import console
from penstock.cli.pause import Names, deployed_pipelines, describe_on_server


def add_commands(app: typer.Typer) -> None:
    app.command("resume", epilog="Example: penstock resume card-risk")(resume)


def resume(pipelines: Names, timezone: Timezone = None) -> None:
    """Resume the schedules of pipelines in Prefect, and forget why they were paused.

    The next run scores what became due meanwhile, as far as `catch_up` and `max_intervals` allow.
    """
    settings = open_settings()
    with deployed_pipelines(settings, pipelines) as (client, deployments):
        from penstock.deployments.deploy.pauses import resume_schedule
        from penstock.report.status_sections import describe_pause
        from penstock.tasks.deployed import read_pause

        for deployment in deployments:
            before = read_pause(client, deployment)
            resume_schedule(client, deployment)
            describe_on_server(client, deployment, settings, None)
            was = describe_pause(before, timezone or settings.timezone) if before else ""
            told = f"resumed; it was {was}" if before else "was not paused"
            console().print(f"{deployment.name}: {told}", markup=False, soft_wrap=True)
