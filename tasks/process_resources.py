"""The databases, models and options of a task, from the settings of the process that it runs in."""

import json
from functools import lru_cache
from typing import Any

from penstock.database.connections import Connector, Database, open_database, read_connection
from penstock.errors import SettingsError
from penstock.models.registry import Registry
from penstock.privacy.masking import make_masking
from penstock.scoring_steps import ScoringSteps
from penstock.settings import Settings, load_settings
from penstock.sources.text.staged_folders import staging_folder
from penstock.spec.pipeline import Pipeline


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Return the settings of this process, read once."""
    return load_settings()


def connect(name: str) -> Database:
    """Open a named connection, which may be a Prefect block."""
    return open_database(settings(), name, resolve_block)


def connector() -> Connector:
    """Return the connector for the connections and files that this process may read."""
    return Connector(connect, settings().allowed_roots, staging_folder(settings().home), read_value=read_value)


def read_value(name: str) -> str:
    """Return the value of a named connection, which may be in a Prefect block."""
    return read_connection(settings(), name, resolve_block)


def scoring_steps(pipeline: Pipeline) -> ScoringSteps:
    """Return the steps of a pipeline's runs, with this process's settings and its secret for private columns."""
    return ScoringSteps(pipeline, settings(), connector(), registry(), make_masking(pipeline, settings()))


def registry() -> Registry:
    """Return the model store."""
    return Registry(settings().models_folder, settings().device)


def resolve_block(reference: str) -> str:
    """Return the database URL or the options in a Prefect block: `secret/<name>`, or one with a `get_url` or `url`.

    Raises:
        SettingsError: the server has no such block.
    """
    from prefect.blocks.core import Block

    try:
        block: Any = Block.load(reference)  # block types return their URL in different ways
    except ValueError:
        raise SettingsError(
            f"there is no Prefect block `{reference}` on the server",
            "Save it there, or name another one: `secret/<name>`.",
        ) from None
    for method in ("get", "get_url"):
        if hasattr(block, method):
            return _plain(getattr(block, method)())
    return _plain(block.url)


def _plain(value: Any) -> str:
    plain = value.get_secret_value() if hasattr(value, "get_secret_value") else value
    return json.dumps(plain) if isinstance(plain, dict) else str(plain)
