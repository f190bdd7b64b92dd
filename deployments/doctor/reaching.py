"""Check whether the Prefect server answers, and whether its address is the API's."""

from urllib.parse import urlsplit

import httpx

from penstock.deployments.doctor.context import CheckContext
from penstock.deployments.doctor.finding import Finding, broken, not_checked, ok, warning
from penstock.deployments.server.lock import is_alive

PROBE_SECONDS = 5.0
SUBJECT = "server"


def reach_server(case: CheckContext) -> Finding:
    """Ask the server for its health."""
    if case.api_url is None:
        return _explain_no_server(case)
    url = case.api_url.rstrip("/")
    if is_healthy(url):
        # Without `/api` the UI's page answers every request, but its health is not the API's.
        return ok(SUBJECT, f"{hide_login(url)} answers")
    if not url.endswith("/api") and is_healthy(f"{url}/api"):
        return broken(
            SUBJECT,
            f"{hide_login(url)} is the UI; the API is one level below",
            f"Set PREFECT_API_URL to {hide_login(url)}/api",
        )
    return broken(SUBJECT, f"{hide_login(url)} does not answer", "Start it, or check PREFECT_API_URL.")


def is_healthy(api_url: str) -> bool:
    """Whether a Prefect API answers there within seconds."""
    try:
        answer = httpx.get(f"{api_url}/health", timeout=PROBE_SECONDS)
        return answer.status_code == 200 and answer.text.strip() == "true"
    except (httpx.HTTPError, httpx.InvalidURL):
        return False


def hide_login(url: str) -> str:
    """Return an address without user and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _explain_no_server(case: CheckContext) -> Finding:
    folder = (case.settings.home / "prefect").absolute()
    if (folder / "server.lock").exists() and is_alive(folder):
        return broken(
            SUBJECT, f"a server runs in {folder} and does not answer", f"Read {folder / 'server.log'}; stop it."
        )
    if is_healthy("http://127.0.0.1:4200/api"):
        remedy = (
            "Set PREFECT_API_URL to http://127.0.0.1:4200/api if it is yours; otherwise use `penstock up --port 4300`."
        )
        return warning(SUBJECT, "none is configured, and one answers on port 4200", remedy)
    return not_checked(SUBJECT, case.why_no_server)
