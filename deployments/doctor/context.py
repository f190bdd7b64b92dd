"""The input of the checks: settings, pipelines, and the Prefect server if there is one."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from penstock.errors import SettingsError, SpecError
from penstock.settings import Settings
from penstock.spec.pipeline import Pipeline
from penstock.spec.yaml_file import load_pipeline

NO_SERVER = "no Prefect server; start `penstock up` or set PREFECT_API_URL"


@dataclass(frozen=True)
class CheckContext:
    """The input of one examination."""

    settings: Settings
    environment: Mapping[str, str]
    """The environment variables at the start of the command."""
    now: datetime
    settings_error: SettingsError | None = None
    """Why the defaults are used instead of the user's settings."""
    pipelines: tuple[Pipeline, ...] = ()
    spec_errors: tuple[SpecError, ...] = ()
    api_url: str | None = None
    why_no_server: str = NO_SERVER

    @property
    def server(self) -> str:
        """The server's address, for checks that need a server."""
        assert self.api_url is not None
        return self.api_url


def read_specs(settings: Settings) -> tuple[tuple[Pipeline, ...], tuple[SpecError, ...]]:
    """Return the pipelines of the folder that load, and the errors of the others."""
    pipelines, errors = [], []
    for file in sorted(settings.pipelines.glob("*.yaml")):
        try:
            pipelines.append(load_pipeline(file))
        except SpecError as error:
            errors.append(error)
    return tuple(pipelines), tuple(errors)
