"""Load the pipeline specs to deploy, all or none."""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from penstock.database.connections import read_connection
from penstock.errors import ModelNotFound, Problem, SettingsError, SpecError, SpecErrors
from penstock.models.profile import find_drift_bins
from penstock.models.registry import open_registry
from penstock.settings import Settings
from penstock.spec.pipeline import Pipeline
from penstock.spec.yaml_file import load_pipeline
from penstock.tasks.process_resources import resolve_block


def load_specs(settings: Settings, files: Sequence[Path] | None) -> dict[Path, Pipeline]:
    """Read pipeline files, or all files of the pipelines folder.

    Raises:
        SettingsError: there is no pipelines folder.
        SpecError, SpecErrors: files do not load, or a flow would not find them by their pipeline's name.
    """
    if files is None and not settings.pipelines.is_dir():
        raise SettingsError(
            f"there is no pipelines folder {settings.pipelines}",
            "Run this in the project's folder, next to `.env`, or set PENSTOCK_PIPELINES.",
        )
    loaded: dict[Path, Pipeline] = {}
    errors: list[SpecError] = []
    for file in sorted(settings.pipelines.glob("*.yaml")) if files is None else files:
        try:
            loaded[file] = load_pipeline(file)
        except SpecError as error:
            errors.append(error)
    errors += [
        _misplaced(file, pipeline, settings)
        for file, pipeline in loaded.items()
        if not _is_found(file, pipeline, settings)
    ]
    if len(errors) > 1:
        raise SpecErrors(tuple(errors))
    if errors:
        raise errors[0]
    return loaded


def refuse_drift(settings: Settings, pipelines: Sequence[Pipeline]) -> None:
    """Refuse a `drift` that runs could not judge. A model that is not in this store is left to the runs.

    Raises:
        DriftRefused: the model version has no reference, or not a column that is watched.
    """
    registry = open_registry(settings, partial(read_connection, settings, resolve_block=resolve_block))
    for pipeline in pipelines:
        if pipeline.drift:
            with suppress(ModelNotFound):
                pins = {step.name: registry.resolve(step.model) for step in pipeline.steps}
                manifests = {step: registry.manifest(pin.name, pin.version) for step, pin in pins.items()}
                find_drift_bins(pipeline, manifests)


def _is_found(file: Path, pipeline: Pipeline, settings: Settings) -> bool:
    return file.resolve() == (settings.pipelines / f"{pipeline.name}.yaml").resolve()


def _misplaced(file: Path, pipeline: Pipeline, settings: Settings) -> SpecError:
    """Return the error for a file that the flow would not find by its pipeline's name."""
    place = settings.pipelines / f"{pipeline.name}.yaml"
    remedy = f"name it `{file.stem}`, or move the file to {place}"
    if place.is_file():
        remedy = f"that name belongs to {place}: rename one of the two, in the spec and its file name"
    return SpecError(str(file), (Problem(0, "name", f"the pipeline is named `{pipeline.name}`; {remedy}"),))
