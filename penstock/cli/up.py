"""`penstock up`: server, UI, worker and every pipeline deployed, in one command, until Ctrl-C."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from penstock.cli.ending import print_error
from penstock.cli.opening import open_settings
from penstock.cli.output import console as stdout
from penstock.cli.output import make_table
from penstock.errors import PenstockError
from penstock.timezones import describe_moment

if TYPE_CHECKING:
    from rich.console import Console

    from penstock.deployments.server.local import LocalServer
    from penstock.deployments.up import Deployed
    from penstock.settings import Settings

LogLevel = Literal["debug", "info", "warning", "error"]


def add_commands(app: typer.Typer) -> None:
    app.command("up", epilog="Example: penstock up --port 4300 --limit 2")(up)


def up(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the UI and the API, on 127.0.0.1.")] = 4200,
    pages_port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, help="Port of Penstock's own pages, on 127.0.0.1. Default: the one after --port."
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=64, help="Flow runs that the worker runs at once.")] = 4,
    postgres: Annotated[
        bool,
        typer.Option(
            "--postgres",
            help="Keep Prefect's own records in Postgres. PREFECT_SERVER_DATABASE_CONNECTION_URL names the server; "
            "without it, an installed Postgres is started here.",
        ),
    ] = False,
    log_level: Annotated[
        LogLevel, typer.Option("--log-level", help="How much the worker and its flow runs log.")
    ] = "info",
    systemd: Annotated[
        bool, typer.Option("--systemd", help="Print a systemd unit that runs this command as a service, and end.")
    ] = False,
) -> None:
    """Run everything on this machine: Prefect's server and UI, a worker, all pipelines on their schedules.

    Deploys new and changed pipeline files by itself. Runs until Ctrl-C, then stops everything. Only this machine can
    reach it. For a shared server see docs/production.md.
    """
    settings, console = open_settings(), stdout()
    pages_port = pages_port or (port + 1 if port < 65535 else port - 1)
    if pages_port == port:
        raise typer.BadParameter(f"--pages-port {pages_port} is the port of Prefect's UI. Choose another one.")
    if systemd:
        from penstock.deployments.systemd import render_unit

        options = [
            "--port",
            str(port),
            "--pages-port",
            str(pages_port),
            "--limit",
            str(limit),
            "--log-level",
            log_level,
        ]
        typer.echo(render_unit(Path.cwd(), [*options, *(["--postgres"] if postgres else [])]), nl=False)
        return
    with _interrupted_by(signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        try:
            work = partial(_work, pages_port=pages_port, limit=limit, log_level=log_level.upper())
            _run_all(settings, console, port, postgres, work)
        except KeyboardInterrupt:
            console.print("Stopped.")


def _run_all(settings: "Settings", console: "Console", port: int, postgres: bool, work: Callable[..., None]) -> None:
    from concurrent.futures import ThreadPoolExecutor
    from importlib import import_module

    from penstock.deployments.server.local import client_environment, full_server
    from penstock.deployments.server.postgres import find_postgres
    from penstock.settings import prefect_api_url

    project = Path.cwd()
    named = prefect_api_url()
    if named is not None:
        message = f"Your environment sets PREFECT_API_URL to {named}, another server. Unset it to use this one."
        console.print(f"Warning: {message}", style="yellow", markup=False, soft_wrap=True)
    os.environ.update(client_environment(f"http://127.0.0.1:{port}/api", patient=True))
    os.environ["PENSTOCK_PROJECT"] = str(project)  # deployments of this folder run in this folder
    if not any(settings.pipelines.glob("*.yaml")):
        message = (
            f"There is no pipeline in {settings.pipelines}. `penstock init FOLDER` makes a project with one. "
            "A YAML file that you put there is deployed by itself."
        )
        console.print(message, style="yellow", markup=False, soft_wrap=True)
    first = not (settings.home / "prefect").exists()
    console.print(f"Starting Prefect's server{': the first start takes 10 to 30 s' if first else ''} …")
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(import_module, "penstock.deployments.up")  # while the server starts in its own process
        with full_server(settings.home, port=port, find_database=find_postgres if postgres else None) as server:
            loading.result()
            work(settings, console, server, project)
    print_error(f"the Prefect server died. Read {server.log}, and start again.")
    raise typer.Exit(1)


def _work(
    settings: "Settings",
    console: "Console",
    server: "LocalServer",
    project: Path,
    *,
    pages_port: int,
    limit: int,
    log_level: str,
) -> None:
    """Deploy, and keep the worker running. Return only when the server has ended."""
    from penstock.deployments.deploy.deploy_pipelines import LEFT_ALONE
    from penstock.deployments.deploy.work_pool import WORK_POOL
    from penstock.deployments.folder_watch import FolderWatch
    from penstock.deployments.server.log_rotation import rotate_log
    from penstock.deployments.systemd import notify_systemd
    from penstock.deployments.up import deploy_folder, keep_worker, list_deployed, wait_for_worker
    from penstock.deployments.worker.process import WorkerPlan
    from penstock.web.process import PagesPlan, running_pages

    def warn(message: str) -> None:
        console.print(message, style="yellow", markup=False, soft_wrap=True)

    def show_all() -> None:
        online = wait_for_worker(server.api_url)
        _show(console, server, pages.plan.url, project, plan, list_deployed(server.api_url), settings.timezone)
        if not online:
            warn(f"The worker is not online yet. Its log: {plan.log}")
        notify_systemd("READY=1")

    def tick() -> None:
        notify_systemd("WATCHDOG=1")
        rotate_log(log)
        rotate_log(server.log)
        rotate_log(pages.plan.log)
        pages.keep()
        if watch.has_changed():
            try:
                deploy(remove_orphans=False)
            except PenstockError as error:
                warn(f"Not deployed: {error}")

    def deploy(*, remove_orphans: bool) -> None:
        changes, broken = deploy_folder(server.api_url, settings, remove_orphans=remove_orphans)
        for change in changes:
            if LEFT_ALONE in change.details:
                warn(f"{change.what}: its file is gone. Run `penstock deploy` to remove it.")
            elif change.kind != "unchanged":
                console.print(f"{change.kind} {change.what}", markup=False, soft_wrap=True)
        for error in broken:
            if str(error) not in named:
                warn(f"Not deployed: {error}")
        named.clear()
        named.update(str(error) for error in broken)

    named: set[str] = set()
    """The errors of the last deploy, which are not printed again."""
    log = server.log.with_name("worker.log")
    rotate_log(log, 0)
    plan = WorkerPlan(server.api_url, WORK_POOL, project, log, limit, log_level)
    watch = FolderWatch(settings.pipelines)
    # Before the worker starts, because deployments of an older version may name modules that are gone.
    deploy(remove_orphans=True)
    pages_plan = PagesPlan(pages_port, server.ui_url, project, server.log.with_name("pages.log"))
    if settings.web_url is None:
        os.environ["PENSTOCK_WEB_URL"] = pages_plan.url  # run cards link there
    try:
        with running_pages(pages_plan, warn) as pages:
            keep_worker(server, plan, show_all, warn, tick)
    except KeyboardInterrupt:
        console.print("The worker and its flow runs have ended; the server follows …")
        raise


def _show(
    console: "Console",
    server: "LocalServer",
    pages_url: str,
    project: Path,
    plan: Any,
    deployed: "tuple[Deployed, ...]",
    zone: str,
) -> None:
    """Print the addresses, folders and logs, and each deployment's next run in a time zone."""
    facts = {
        "pages": f"{pages_url}/",
        "UI": server.ui_url,
        "API": server.api_url,
        "health": f"{server.ui_url}/health, 200 if the server and a worker are well",
        "project": project,
        "worker": f"{plan.limit} flow runs at once, log in {plan.log}",
    }
    console.print("\nPenstock is up", style="bold green")
    for name, fact in facts.items():
        console.print(f"  {name:<8} {fact}", markup=False, soft_wrap=True)
    table = make_table("deployment", "next run")
    for each in deployed:
        table.add_row(each.name, _describe_next_run(each, zone))
    console.print(table)
    console.print("Ctrl-C stops everything.")


def _describe_next_run(deployed: "Deployed", zone: str) -> str:
    if deployed.pause:
        return deployed.pause
    if deployed.next_run is not None:
        return describe_moment(deployed.next_run, zone)
    return "not planned yet" if deployed.scheduled else "when triggered"


@contextmanager
def _interrupted_by(*signals: signal.Signals) -> Iterator[None]:
    """Let these signals end the process in order, as Ctrl-C does."""

    def interrupt(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = {each: signal.signal(each, interrupt) for each in signals}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
