"""Settings from the environment: where things are and what they cost. Nothing else reads the environment."""

import os
import re
import sys
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError as UnreadableSetting

from penstock.errors import SettingsError, nearest
from penstock.interval import parse_duration
from penstock.resources.memory import read_size
from penstock.resources.runner import Runner, parse_runner
from penstock.resources.usage import Prices
from penstock.timezones import check_timezone

Device = Literal["cpu", "cuda"]


def _read_store(text: object) -> object:
    """Return a URL as it is, and a folder as a path, which would take one of the slashes from a URL."""
    return Path(text) if isinstance(text, str) and "://" not in text else text


def _read_linger(value: str | None) -> timedelta | None:
    if value is None:
        return None
    return timedelta(0) if value.strip() == "0" else parse_duration(value)


class Settings(BaseSettings):
    """Settings from `PENSTOCK_…` variables and `.env` in the working folder."""

    model_config = SettingsConfigDict(
        env_prefix="PENSTOCK_", env_nested_delimiter="__", env_file=".env", extra="ignore", frozen=True
    )

    home: Path = Path(".penstock")
    """Folder of the default warehouse, the models and the local Prefect server's files."""
    pipelines: Path = Path("deployments/pipelines")
    """Folder of the pipelines, where names are looked up."""
    connections: dict[str, SecretStr] = Field(default_factory=dict)
    """Named connections: SQLAlchemy URLs, JSON objects with the options of an object store, or `block:<type>/<name>` of
    a Prefect block with one of them."""
    model_store: Annotated[Path | str | None, BeforeValidator(_read_store)] = None
    """Folder of the models, or a URL in an object store, as in `s3://bucket/models`."""
    private_key: SecretStr | None = None
    """Secret for hashing private columns, at least 16 characters, the same wherever Penstock runs."""
    private_key_old: SecretStr | None = None
    """The former `private_key`, under which values are still found."""
    seal_key: SecretStr | None = None
    """Secret for the seals of `seal: true`, at least 16 characters, the same wherever Penstock runs."""
    seal_key_old: SecretStr | None = None
    """The former `seal_key`, whose seals still hold."""
    token_file: Path | None = None
    """File of the tokens with which people and programs use the server, as `penstock tokens` writes it."""
    web_url: str | None = None
    """Address of the web application's pages for browsers, to which run cards link. `penstock up` sets it."""
    runner: Annotated[str, AfterValidator(lambda text: str(parse_runner(text)))] = "threads:2"
    """The runner of partitions: `threads:n`, `processes:n`, `dask:<address>` or `ray:<address>`."""
    in_flight: Annotated[int, Field(ge=0, le=10_000)] = 0
    """Partitions at once on a cluster. 0: as many as its workers have threads."""
    device: Device = "cpu"
    """Device for predictions: the processor, or a GPU if there is one."""
    linger: Annotated[timedelta | None, BeforeValidator(_read_linger)] = None
    """How long the Prefect server of a command waits for the next one. Unset: 5 minutes on a terminal, else 0."""
    lease_seconds: Annotated[float, Field(ge=1, le=3600)] = 60.0
    """Seconds that a run keeps its interval without renewing the lease."""
    statement_seconds: Annotated[int, Field(ge=1)] = 1800
    """How long one statement may take before the database ends it."""
    roots: str = ""
    """Folders that `files` and `log` sources may read, separated by the path separator. Empty: no limit."""
    memory: Annotated[Annotated[int, Field(gt=0)] | None, BeforeValidator(read_size)] = None
    """Memory limit of a scoring process. Partitions are cut to fit. Unset: the spec and the runner decide."""
    timezone: Annotated[str, AfterValidator(check_timezone)] = "UTC"
    """IANA time zone in which commands print times, as in `Europe/Paris`. `--timezone` sets another one."""
    price_cpu_hour: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Price of one processor for an hour, in any currency."""
    price_gb_hour: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Price of a gigabyte of memory for an hour."""

    @property
    def partition_runner(self) -> Runner:
        return parse_runner(self.runner)

    @property
    def models_folder(self) -> Path | str:
        """The folder of the model store, or its URL."""
        return self.model_store or self.home / "models"

    @property
    def tokens_file(self) -> Path:
        """The file of tokens."""
        return self.token_file or self.home / "tokens"

    @property
    def linger_seconds(self) -> float:
        if self.linger is not None:
            return self.linger.total_seconds()
        return 300.0 if sys.stdout.isatty() and not os.environ.get("CI") else 0.0

    @property
    def in_one_process(self) -> int:
        """How many partitions one process may run at once."""
        kind, _, workers = self.runner.partition(":")
        return int(workers) if kind == "threads" else 1

    @property
    def prices(self) -> Prices:
        return Prices(self.price_cpu_hour, self.price_gb_hour)

    @property
    def allowed_roots(self) -> tuple[str, ...]:
        """The folders and remote prefixes of `roots`. The colons of `https://host:8080` are no separators."""
        other = f"[^{re.escape(os.pathsep)}]"
        return tuple(re.findall(rf"[A-Za-z][A-Za-z0-9+.-]+://[^/:]*(?::\d+)?{other}*|{other}+", self.roots))

    @cached_property
    def urls(self) -> dict[str, SecretStr]:
        """All named connections, including the default warehouse if none is configured."""
        default = {"warehouse": SecretStr(f"sqlite:///{(self.home / 'warehouse.db').absolute()}")}
        return default | {name.lower(): url for name, url in self.connections.items()}

    def url_of(self, connection: str) -> str:
        """Return the URL of a named connection.

        Raises:
            SettingsError: no variable sets it.
        """
        if connection not in self.urls:
            raise SettingsError(
                f"connection `{connection}` is not set.{nearest(connection, tuple(self.urls))}".rstrip("."),
                f"Set PENSTOCK_CONNECTIONS__{connection.upper()} to a database URL, "
                "as in `postgresql+psycopg://user:password@host/database`, or to a JSON object with the options of an "
                "object store, in the environment or in .env.",
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
        reason = first["msg"].removeprefix("Value error, ")  # pydantic's prefix to our own parsers' messages
        raise SettingsError(f"{variable} cannot be read: {reason}", "Correct it and run again.") from None
    except UnreadableSetting as error:  # not JSON where a mapping is expected; the cause contains the secret text
        field = re.findall(r'"(\w+)"', str(error))[:1]
        raise SettingsError(
            f"PENSTOCK_{''.join(field).upper()} cannot be read: it is not JSON",
            "Set one variable per name instead: PENSTOCK_CONNECTIONS__<NAME>.",
        ) from None


def prefect_api_url() -> str | None:
    """Return the Prefect server that the environment names, if any."""
    return os.environ.get("PREFECT_API_URL") or None


def project_folder() -> Path | None:
    """Return the folder that `PENSTOCK_PROJECT` names, with `.env` and the pipelines."""
    named = os.environ.get("PENSTOCK_PROJECT")
    return Path(named).absolute() if named else None


def prefect_ui_url() -> str | None:
    """Return the address of Prefect's UI if the environment names it separately from the API."""
    return os.environ.get("PREFECT_UI_URL") or None


def is_debugging() -> bool:
    """Whether `PENSTOCK_DEBUG=1` asks for tracebacks. Read separately, because the settings may be wrong."""
    return os.environ.get("PENSTOCK_DEBUG", "") not in ("", "0")
