"""Links to a run's page in Prefect's UI."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.ledger.reader import RunRecord
    from penstock.settings import Settings


def find_ui(settings: "Settings") -> str | None:
    """Return the address of Prefect's UI: the configured one, or that of a running local server."""
    from penstock.deployments.server.local import running_server
    from penstock.settings import prefect_api_url, prefect_ui_url

    named = prefect_ui_url() or prefect_api_url()
    if named is None:
        local = running_server(settings.home)
        named = local.api_url if local else None
    return named.rstrip("/").removesuffix("/api") if named else None


def flow_run_link(run: "RunRecord", ui: str | None) -> str | None:
    """Return the address of the flow run's page, or None if no UI is known."""
    return f"{ui}/runs/flow-run/{run.flow_run_id}" if ui and run.flow_run_id else None
