"""A project folder whose specs a test writes, deployed on the server that all tests share."""

from collections.abc import Sequence
from pathlib import Path

from penstock.deployments.deploy.changes import Change
from penstock.deployments.deploy.deploy_pipelines import deploy_pipelines
from penstock.settings import Settings
from tests.shop import SPEC

CRON = 'schedule: {cron: "15 2 * * *", timezone: Europe/Paris}'
INTERVAL = "schedule: {interval: 6h, timezone: America/New_York}"
RRULE = "schedule: {rrule: 'FREQ=WEEKLY;BYDAY=MO,WE', timezone: Asia/Tokyo}"


def write_spec(folder: Path, name: str, *lines: str, file: str | None = None) -> Path:
    """Write the shop's pipeline under a name, with some more lines."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{file or name}.yaml"
    path.write_text("\n".join([SPEC.replace("name: card-risk", f"name: {name}", 1), *lines]))
    return path


class Project:
    """The folder that was the working folder when this was made."""

    def __init__(self, api_url: str, settings: Settings) -> None:
        self.api_url, self.settings = api_url, settings
        settings.pipelines.mkdir(parents=True, exist_ok=True)

    def write(self, name: str, *lines: str) -> Path:
        return write_spec(self.settings.pipelines, name, *lines)

    def deploy(self, files: Sequence[Path] | None = None, **how: bool) -> dict[str, Change]:
        """Deploy, and return what became of each object on the server."""
        changes = deploy_pipelines(self.api_url, self.settings, files, **how)
        return {change.what: change for change in changes}
