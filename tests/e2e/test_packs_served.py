"""Each pipeline of the packs, served: requests get the scores that a run has published, to the bit."""

import json
import re
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import orjson
import pyarrow as pa
import pytest
import sqlalchemy as sa

from penstock import Project
from penstock.cli.opening import connector
from penstock.database.connections import close_engines
from penstock.examples.pack import open_pack, pack_names
from penstock.examples.project import inside, write_pipelines, write_settings, write_size
from penstock.interval import DataInterval
from penstock.ledger.reader import RunRecord
from penstock.privacy.masking import make_masking
from penstock.run.extract import extract_first
from penstock.run.partition_options import PartitionOptions
from penstock.run_types import ExtractedRows, ScoringRun
from penstock.serving.served_pipeline import ServedPipeline
from penstock.spec.pipeline import Pipeline
from tests.e2e.test_packs import NOW, open_driver, size_of
from tests.served import client_of

pytestmark = pytest.mark.soak
_TIME = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d")
LARGE = {"limit": {"rows": 100_000, "bytes": "64MiB"}}
"""A request brings the other sources of a run whole."""


@pytest.fixture(scope="module", params=pack_names())
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A pack with its data and models, and the first published run of each of its pipelines."""
    pack = open_pack(request.param)
    size, folder = size_of(pack), tmp_path_factory.mktemp(f"{request.param}-served")
    write_settings(folder, [pack])
    with inside(folder) as project:
        write_pipelines(pack, size)
        write_size(pack, size)
        pack.make(project, size)
        pack.train(project, size)
        for name in pack.pipelines:
            next(step for step in open_driver(project, name).steps(NOW) if step == "publish")
        yield project
        close_engines()


def test_requests_score_as_the_run(project: Project, request: pytest.FixtureRequest) -> None:
    for name in open_pack(request.node.callspec.params["project"]).pipelines:
        pipeline = project.load_pipeline(name)
        [run] = [each for each in project.list_runs(pipeline, 1000) if each.state == "published"]
        rows = read_rows(project, pipeline, run)
        published = read_published(project, pipeline)

        outcomes = ask(project, pipeline, rows)

        statuses = [each["status"] for each in outcomes]
        scored = {
            key_of(pipeline, row): each["outputs"]
            for row, each in zip(rows.primary.to_pylist(), outcomes, strict=True)
            if each["status"] == "scored"
        }
        assert scored.keys() == published.keys()
        for key, outputs in scored.items():
            stored = published[key]
            assert {column: stored[column] for column in outputs} == outputs, (name, key)
        assert len(published) == run.rows_scored > 0
        assert (statuses.count("refused"), statuses.count("excluded")) == (run.rows_quarantined, run.rows_excluded)


def read_rows(project: Project, pipeline: Pipeline, run: RunRecord) -> ExtractedRows:
    """Return the rows that a run read, as they are in the sources."""
    start, end = run.interval_start, run.interval_end
    interval = DataInterval(start, end) if start and end else None
    model = project.registry.resolve(pipeline.steps[-1].model)
    asked = ScoringRun("request", pipeline, interval, model, "")
    return extract_first(asked, 10_000_000, connector(project.settings))


def key_of(pipeline: Pipeline, row: dict[str, Any]) -> str:
    """Return the key as text. SQLite writes times with a blank."""
    texts = [str(write(row[column])) for column in pipeline.key]
    return json.dumps([f"{text[:10]}T{text[11:19]}" if _TIME.match(text) else text for text in texts])


def write(value: Any) -> Any:
    if isinstance(value, date):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value


def read_published(project: Project, pipeline: Pipeline) -> dict[str, dict[str, Any]]:
    with project.connect(pipeline.destination.connection).reading() as connection:
        found = connection.execute(sa.text(f"select * from {pipeline.destination.table}"))
        rows = [dict(row._mapping) for row in found]
    return {key_of(pipeline, row): {name: write(value) for name, value in row.items()} for row in rows}


def ask(project: Project, pipeline: Pipeline, rows: ExtractedRows) -> list[dict[str, Any]]:
    options = PartitionOptions(make_masking(pipeline, project.settings), 600)
    large = Pipeline.model_validate(pipeline.model_dump(exclude_unset=True) | {"serve": LARGE}, context={})
    served = ServedPipeline(large, connector(project.settings), project.registry, options)
    assert served.take_models(), served.problem
    body = {"rows": to_json(rows.primary), "sources": {name: to_json(table) for name, table in rows.others.items()}}
    with client_of(served, poll_seconds=3600) as client:
        answer = client.post(
            f"/pipelines/{pipeline.name}/score",
            content=orjson.dumps(body, default=write),
            headers={"content-type": "application/json"},
        )
    assert answer.status_code == 200, answer.text
    outcomes: list[dict[str, Any]] = answer.json()["rows"]
    return outcomes


def to_json(table: pa.Table) -> list[dict[str, Any]]:
    return table.to_pylist()
