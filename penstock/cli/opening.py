"""Open the settings, pipelines and databases of a command."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.errors import PipelineNotFound, RunNotFound, SettingsError, SpecError

if TYPE_CHECKING:
    from penstock.database.connections import Connector, Database
    from penstock.ledger.reader import RunRecord
    from penstock.models.registry import Registry
    from penstock.settings import Settings
    from penstock.spec.pipeline import Pipeline


@contextmanager
def without_collecting() -> Iterator[None]:
    """Collect no garbage until a run's modules are imported (`worker.flow_run.load`): that takes a sixth less then."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


_opened: "dict[str, Database]" = {}


def open_settings() -> "Settings":
    """Read the settings of this process."""
    from penstock.settings import load_settings

    return load_settings()


def open_pipeline(pipeline: str, settings: "Settings", sandbox: str | None = None) -> "Pipeline":
    """Read the pipeline of a name or a path, or that of a sandbox.

    Raises:
        SandboxRefused: a sandbox cannot have the name.
    """
    from penstock.spec.sandbox import as_sandbox
    from penstock.spec.yaml_file import find_pipeline_file, load_pipeline

    spec = load_pipeline(find_pipeline_file(pipeline, settings.pipelines))
    return spec if sandbox is None else as_sandbox(spec, sandbox)


def pipeline_files(settings: "Settings") -> list[Path]:
    """Return the files of the pipelines folder, sorted by name."""
    return sorted(settings.pipelines.glob("*.yaml"))


def connector(settings: "Settings") -> "Connector":
    """Return what opens a named connection, which may be a Prefect block, and the files that may be read."""
    from penstock.database.connections import Connector, open_database

    def connect(name: str) -> "Database":
        database = open_database(settings, name, _resolve_block)
        _opened[name] = database
        return database

    return Connector(connect, settings.allowed_roots, read_value=partial(_read_value, settings))


def open_models(settings: "Settings") -> "Registry":
    """Return the model store."""
    from penstock.models.registry import open_registry

    return open_registry(settings, partial(_read_value, settings))


def _read_value(settings: "Settings", name: str) -> str:
    from penstock.database.connections import read_connection

    return read_connection(settings, name, _resolve_block)


def ledger_connector(settings: "Settings") -> "Connector":
    """Return what opens a warehouse whose ledger a command reads or changes. It makes none.

    Raises:
        LedgerLost: on opening, the project has had a ledger, and the warehouse has none or another one.
    """
    from penstock.ledger.known_ledgers import refuse_lost

    plain = connector(settings)

    def connect(name: str) -> "Database":
        database = plain(name)
        refuse_lost(database, settings.home)
        return database

    return replace(plain, open=connect)


def close_databases() -> None:
    """Close the connections of every database that a command opened."""
    for database in _opened.values():
        database.engine.dispose()


def _resolve_block(reference: str) -> str:
    from penstock.settings import prefect_api_url

    if prefect_api_url() is None:
        raise SettingsError(
            f"the Prefect block `{reference}` is read from a Prefect server, and none is configured",
            "Set PREFECT_API_URL to the server with this block.",
        )
    from penstock.tasks.process_resources import resolve_block

    return resolve_block(reference)


def open_ledger(settings: "Settings", pipeline: str | None = None) -> "tuple[Database, str | None]":
    """Return the warehouse with a pipeline's runs, and the pipeline's name. A missing ledger is not made.

    If the pipeline's file is gone, its name is looked up in the default warehouse.

    Raises:
        LedgerLost: the project has had a ledger, and the warehouse has none or another one.
    """
    connect = ledger_connector(settings)
    if pipeline is None:
        return connect("warehouse"), None
    try:
        spec = open_pipeline(pipeline, settings)
    except PipelineNotFound:
        from penstock.ledger.reader import list_runs

        warehouse = connect("warehouse")
        if not list_runs(warehouse, pipeline, limit=1):
            raise
        return warehouse, pipeline
    return connect(spec.destination.connection), spec.name


def open_ledgers(settings: "Settings") -> "list[Database]":
    """Return every warehouse that a pipeline of the folder writes to, the default one first.

    Raises:
        LedgerLost: the project has had a ledger, and a warehouse has none or another one.
    """
    connect = ledger_connector(settings)
    return [connect(name) for name in pipelines_by_warehouse(settings)]


def pipelines_by_warehouse(settings: "Settings") -> dict[str, list[str]]:
    """Return the names of the folder's pipelines by the connection that they write to, the default one first."""
    from penstock.spec.yaml_file import load_pipeline

    found: dict[str, list[str]] = {"warehouse": []}
    for file in pipeline_files(settings):
        try:
            pipeline = load_pipeline(file)
        except SpecError:
            continue  # `penstock check` reports it; the runs of the others can still be found
        found.setdefault(pipeline.destination.connection, []).append(pipeline.name)
    return found


def locate_run(settings: "Settings", prefix: str) -> "tuple[Database, RunRecord]":
    """Find a run by the beginning of its id, in all warehouses.

    Raises:
        RunNotFound: no run matches, or several do.
    """
    from penstock.ledger.reader import find_run

    found: list[tuple[Database, RunRecord]] = []
    for database in open_ledgers(settings):
        try:
            found.append((database, find_run(database, prefix)))
        except RunNotFound as error:
            if error.matches:
                raise
    ids = tuple(dict.fromkeys(run.run_id for _, run in found))
    if len(ids) != 1:
        raise RunNotFound(prefix, ids)
    return found[0]
