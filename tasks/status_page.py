"""The status of the pipelines as an artifact, renewed after each run. An error here never fails a run."""

import logging
import re
from datetime import UTC, datetime
from pathlib import Path

from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client

from penstock.errors import PenstockError
from penstock.report.card import write_sections
from penstock.report.status import PipelineStatus, read_status
from penstock.report.status_sections import build_status
from penstock.settings import Settings
from penstock.spec.pipeline import Pipeline
from penstock.spec.yaml_file import MAX_BYTES, load_pipeline
from penstock.tasks.artifacts import link_to_pages
from penstock.tasks.deployed import read_schedule_states
from penstock.tasks.process_resources import connect, settings

KEY = "penstock-status"
"""Prefect's list of artifacts shows one line for a key, with the newest version."""
MOST_PIPELINES = 30
"""Pipelines on the page: it is written after each run, and reading a file takes a while."""

_NAME = re.compile(rb"^name:[ \t]+([\w-]+)[ \t]*(?:#.*)?\r?$", re.MULTILINE)
"""A pipeline's name as specs usually have it. Text at the start of a line is never part of a value."""

logger = logging.getLogger(__name__)


def show_status(pipeline: Pipeline) -> None:
    """Write how this pipeline and the others of its folder and warehouse stand, as one artifact.

    A run of a sandbox changes nothing that the page shows.
    """
    if pipeline.is_sandbox:
        return
    try:
        now, known = datetime.now(UTC), settings()
        found = _read_all(pipeline, known, now)
        page = "\n\n".join(write_sections(build_status(found, now, known.timezone)))
        page += link_to_pages("These pipelines on Penstock's pages", "/")
        create_markdown_artifact(page, key=KEY, description="How the pipelines stand")
    except Exception as error:  # noqa: BLE001 # a page about the run must not fail a run that has published
        logger.warning("could not write the status page: %s", error)


def _read_all(pipeline: Pipeline, known: Settings, now: datetime) -> list[PipelineStatus]:
    warehouse = connect(pipeline.destination.connection)
    specs = {pipeline.name: pipeline}
    for file in sorted(Path(known.pipelines).glob("*.yaml")):
        if len(specs) == MOST_PIPELINES:
            break
        try:
            if _reads_as(file, pipeline.name):
                continue
            other = load_pipeline(file)
        except (PenstockError, OSError):
            continue  # the pipeline's own run reports it
        if other.destination.connection == pipeline.destination.connection:
            specs.setdefault(other.name, other)
    with get_client(sync_client=True) as client:
        states = read_schedule_states(client, [spec.name for spec in specs.values() if spec.schedule])
    with warehouse.reading_together():
        return [read_status(warehouse, specs[name], now, known.timezone, states.get(name)) for name in sorted(specs)]


def _reads_as(file: Path, name: str) -> bool:
    """Whether a file is the spec of this pipeline, which need not be parsed again."""
    with file.open("rb") as content:
        return _NAME.findall(content.read(MAX_BYTES)) == [name.encode()]
