"""The only reader of the environment: where things are and what they cost, never what a pipeline is."""

import os
import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError as UnreadableSetting

from penstock.errors import SettingsError, nearest
from penstock.resources.memory import read_size
from penstock.resources.runner import Runner, parse_runner
from penstock.resources.usage import Prices

Device = Literal["cpu", "cuda"]


class Settings(BaseSettings):
    """Settings from `PENSTOCK_…` variables and from `.env` in the working folder."""

    model_config = SettingsConfigDict(
        env_prefix="PENSTOCK_", env_nested_delimiter="__", env_file=".env", extra="ignore", frozen=True
    )

    home: Path = Path(".penstock")
    """Folder of the embedded default: warehouse, models, the local Prefect server's files."""
    pipelines: Path = Path("deployments/pipelines")
    """Folder where a pipeline's name is looked up."""
    connections: dict[str, SecretStr] = Field(default_factory=dict)
    """Named connections: SQLAlchemy URLs, or `block:<type>/<name>` of a Prefect block that holds one."""
    model_store: Path | None = None
    private_key: SecretStr | None = None
    """Secret that private columns are hashed with, the same wherever Penstock runs; at least 16 characters."""
    runner: Annotated[str, AfterValidator(lambda text: str(parse_runner(text)))] = "threads:2"
    """What runs the partitions: `threads:n`, `processes:n`, `dask:<address>` or `ray:<address>`."""
    in_flight: Annotated[int, Field(ge=0, le=10_000)] = 0
    """Partitions under way at once on a cluster; 0: as many as its workers have threads."""
    device: Device = "cpu"
    """What predicts: the processor, or a GPU where there is one."""
    lease_seconds: Annotated[float, Field(ge=1, le=3600)] = 60.0
    """How long a run holds its interval without a sign of life."""
    statement_seconds: Annotated[int, Field(ge=1)] = 1800
    """How long one statement may take before the database ends it."""
    roots: str = ""
    """Folders that `files` and `log` sources may read, with the path separator between them; empty: no limit."""
    memory: Annotated[Annotated[int, Field(gt=0)] | None, BeforeValidator(read_size)] = None
    """What a process that scores may hold; partitions are cut and run to fit. Unset: as the spec and the runner say."""
    price_cpu_hour: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """What an hour of one processor costs, in whatever currency."""
    price_gb_hour: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """What a gigabyte of memory costs for an hour."""

    @property
    def partition_runner(self) -> Runner:
        return parse_runner(self.runner)

    @property
    def models_folder(self) -> Path:
        return self.model_store or self.home / "models"

    @property
    def in_one_process(self) -> int:
        """How many partitions one process may have under way at once."""
        kind, _, workers = self.runner.partition(":")
        return int(workers) if kind == "threads" else 1

    @property
    def prices(self) -> Prices:
        return Prices(self.price_cpu_hour, self.price_gb_hour)

    @property
    def allowed_roots(self) -> tuple[str, ...]:
        """The folders and remote prefixes of `roots`; the colon of `s3://` separates nothing."""
        return tuple(root for root in re.split(rf"{re.escape(os.pathsep)}(?!//)", self.roots) if root)

    @cached_property
    def urls(self) -> dict[str, SecretStr]:
        """All named connections, the embedded warehouse included where none is configured."""
        default = {"warehouse": SecretStr(f"sqlite:///{(self.home / 'warehouse.db').absolute()}")}
        return default | {name.lower(): url for name, url in self.connections.items()}

    def url_of(self, connection: str) -> str:
        """Return the URL of a named connection.

        Raises:
            SettingsError: no variable names it.
        """
        if connection not in self.urls:
            raise SettingsError(
                f"connection `{connection}` is not set.{nearest(connection, tuple(self.urls))}".rstrip("."),
                f"Set PENSTOCK_CONNECTIONS__{connection.upper()} to a database URL, "
                "as in `postgresql+psycopg://user:password@host/database`, in the environment or in .env.",
            )
        return self.urls[connection].get_secret_value()


def load_settings() -> Settings:
    """Read the settings from the environment and `.env`.

    Raises:
        SettingsError: a value cannot be read; the message names the variable.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        variable = "PENSTOCK_" + "__".join(str(part).upper() for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")  # pydantic's word for what our own parsers say
        raise SettingsError(f"{variable} cannot be read: {reason}", "Mend it and run again.") from None
    except UnreadableSetting as error:  # no JSON where a mapping is wanted; its cause holds the text, which is secret
        field = re.findall(r'"(\w+)"', str(error))[:1]
        raise SettingsError(
            f"PENSTOCK_{''.join(field).upper()} cannot be read: it is no JSON",
            "Set one variable a name instead: PENSTOCK_CONNECTIONS__<NAME>.",
        ) from None


def prefect_api_url() -> str | None:
    """Return the Prefect server that the environment names, if any."""
    return os.environ.get("PREFECT_API_URL") or None


def project_folder() -> Path | None:
    """Return the folder that `PENSTOCK_PROJECT` names: where `.env` and the pipelines lie on this machine."""
    named = os.environ.get("PENSTOCK_PROJECT")
    return Path(named).absolute() if named else None


def prefect_ui_url() -> str | None:
    """Return the address of Prefect's UI where the environment names it apart from the API."""
    return os.environ.get("PREFECT_UI_URL") or None


def is_debugging() -> bool:
    """Whether tracebacks are wanted: `PENSTOCK_DEBUG=1`; read by itself, for settings may be what is wrong."""
    return os.environ.get("PENSTOCK_DEBUG", "") not in ("", "0")
