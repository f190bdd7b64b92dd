"""Where a task finds its databases and models: the settings of the process it runs in."""

from functools import lru_cache

from models.registry import Registry
from penstock.connections import Database, open_database
from penstock.settings import Settings, load_settings


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Return the settings of this process, read once."""
    return load_settings()


def connect(name: str) -> Database:
    """Open a named connection; a name may stand for a Prefect block."""
    return open_database(settings(), name, resolve_block)


def registry() -> Registry:
    """Return the model store."""
    return Registry(settings().models_folder)


def resolve_block(reference: str) -> str:
    """Return the database URL that a Prefect block holds: `secret/<name>`, or a block with a `get_url` or `url`."""
    from prefect.blocks.core import Block

    block = Block.load(reference)
    value = block.get() if hasattr(block, "get") else block.get_url() if hasattr(block, "get_url") else block.url  # type: ignore[attr-defined] # blocks differ
    return str(value.get_secret_value() if hasattr(value, "get_secret_value") else value)
