"""Checks of the model store: aliases, versions, and each pipeline's model."""

from collections.abc import Iterator
from functools import partial
from importlib import metadata

from penstock.database.connections import read_connection
from penstock.deployments.doctor.context import CheckContext
from penstock.deployments.doctor.databases import is_block
from penstock.deployments.doctor.finding import Check, Finding, broken, not_checked, ok, warning
from penstock.errors import ModelRefused
from penstock.models.booster import find_gpu_fault  # imports XGBoost while only one thread runs
from penstock.models.model_file import FileFacts, refuse_newer
from penstock.models.registry import STORE_CONNECTION, Registry, open_registry
from penstock.spec.pipeline import Pipeline
from penstock.tasks.process_resources import resolve_block
from penstock.wording import plural


def list_checks(case: CheckContext) -> tuple[Check, ...]:
    needs_server = is_block(case.settings, STORE_CONNECTION)
    return (
        Check("store", lambda: check_store(_open_models(case)), needs_server),
        *((Check("device", check_gpu),) if case.settings.device == "cuda" else ()),
        *(Check(p.name, partial(_check_pipeline, case, p), needs_server) for p in case.pipelines),
    )


def _open_models(case: CheckContext) -> Registry:
    return open_registry(case.settings, lambda name: read_connection(case.settings, name, resolve_block))


def _check_pipeline(case: CheckContext, pipeline: Pipeline) -> Iterator[Finding]:
    return check_pipeline_model(_open_models(case), pipeline)


def check_store(registry: Registry) -> Iterator[Finding]:
    """Check every model for aliases without a version and versions of a newer XGBoost."""
    if not registry.store.is_listable:
        yield not_checked("store", f"{registry.folder} is a web server, which does not list its models")
        return
    unfinished = list(registry.store.unfinished())
    if unfinished:
        what = f"{plural(len(unfinished), 'registration')} left files that are no version: {', '.join(unfinished[:3])}"
        yield warning("store", what, "If no registration is running, remove them.")
    names = registry.names()
    if not names:
        yield not_checked("store", f"no models in {registry.folder}; see `penstock models register --help`")
        return
    problems = [problem for name in names for problem in _look_at_model(registry, name)]
    yield from problems
    if not problems and not unfinished:
        versions = sum(len(registry.versions(name)) for name in names)
        yield ok("store", f"{plural(len(names), 'model')}, {plural(versions, 'version')} in {registry.folder}")


def check_gpu() -> Iterator[Finding]:
    """Predict on a GPU, as PENSTOCK_DEVICE asks."""
    fault = find_gpu_fault()
    if fault is None:
        yield ok("device", "a GPU predicts")
    else:
        remedy = "Repair the driver, or set PENSTOCK_DEVICE to cpu. Until then the processor predicts."
        yield warning("device", f"PENSTOCK_DEVICE is cuda, and {fault}", remedy)


def _look_at_model(registry: Registry, name: str) -> Iterator[Finding]:
    try:
        for alias, version in registry.aliases(name).items():
            if version not in registry.versions(name):
                what = f"alias `{alias}` names version {version}, which is missing"
                yield broken(name, what, f"Restore it, or `penstock models promote {name} VERSION {alias}`.")
        for version in registry.versions(name):
            saved_by = [int(part) for part in registry.manifest(name, version).saved_by.split(".")]
            facts = FileFacts("ubj", (saved_by[0], saved_by[1], saved_by[2]))
            refuse_newer(facts, metadata.version("xgboost"), f"{name}/{version}")
    except ModelRefused as error:
        yield broken(name, str(error))


def check_pipeline_model(registry: Registry, pipeline: Pipeline) -> Iterator[Finding]:
    """Load the models of a pipeline as a run does: digest, format, golden rows."""
    for step in pipeline.steps:
        loaded = registry.load(registry.resolve(step.model)).manifest
        yield ok(pipeline.name, f"{step.model} is {loaded.label}, and scores its golden rows as registered")
