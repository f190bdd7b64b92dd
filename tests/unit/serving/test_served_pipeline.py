"""Which pipelines can be served, and which columns their requests bring."""

from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from penstock.cli.serve import ServingProcess
from penstock.database.connections import Connector
from penstock.errors import ServeRefused
from penstock.models.registry import Registry
from penstock.privacy.masking import NO_MASKING
from penstock.run.partition_options import PartitionOptions
from penstock.serving.served_pipeline import STATEMENT_SECONDS, ServedPipeline, refuse_unservable
from penstock.serving.server import Address
from penstock.serving.source_columns import choose_columns
from penstock.spec.pipeline import Pipeline
from tests.driver import SETTINGS
from tests.shop import SPEC

TYPES = {"payment_id": pa.int64(), "created_at": pa.date32(), "updated_at": pa.date32(), "amount": pa.float64()}


def pipeline(**parts: object) -> Pipeline:
    return Pipeline.model_validate(yaml.safe_load(SPEC) | {"destination": {"table": "scores"}} | parts)


def test_a_request_may_not_hold_the_thread_as_long_as_a_run_may(tmp_path: Path) -> None:
    options = PartitionOptions(NO_MASKING, 1800)

    served = ServedPipeline(pipeline(), Connector({}.__getitem__, ()), Registry(tmp_path), options)

    assert served.options.statement_seconds == STATEMENT_SECONDS < 1800
    assert served.options.threads == 1


def test_pipelines_that_write_one_table_are_not_served_together(tmp_path: Path) -> None:
    for name in ("first", "second"):
        spec = yaml.safe_load(SPEC) | {"name": name, "destination": {"table": "scores"}}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(spec))
    files = tuple(str(tmp_path / f"{name}.yaml") for name in ("first", "second"))

    ServingProcess(files[:1], Address("127.0.0.1", 8080), None).open_pipelines(SETTINGS)
    with pytest.raises(ServeRefused, match="two pipelines write the table `scores`"):
        ServingProcess(files, Address("127.0.0.1", 8080), None).open_pipelines(SETTINGS)


def test_an_expectation_that_only_great_expectations_can_judge_is_refused() -> None:
    slow = {"type": "expect_column_values_to_be_dateutil_parseable", "column": "amount", "severity": "warning"}

    refuse_unservable(pipeline())
    with pytest.raises(ServeRefused, match="dateutil_parseable"):
        refuse_unservable(pipeline(expectations={"payments": [slow]}))


@pytest.mark.parametrize(
    ("query", "sent"),
    [
        ("select payment_id, amount * 2 as amount from payments", {"payment_id", "amount"}),
        ("select payment_id, created_at from payments", {"payment_id", "created_at", "amount"}),
        ("select payment_id, count(*) as amount from payments group by payment_id", {"payment_id", "amount"}),
        ("select * from payments", set(TYPES)),
        ("select p.*, 1 as one from payments p", set(TYPES)),
        ("select * exclude (created_at) from payments", set(TYPES)),
        ("from payments", set(TYPES)),
    ],
)
def test_a_request_brings_what_the_query_takes(query: str, sent: set[str]) -> None:
    columns = choose_columns(pipeline(features=query).for_requests, "payments", TYPES, ("amount",))

    assert set(columns.types) == sent
    assert {"payment_id", "amount"} <= columns.required
    assert "updated_at" not in columns.required


def test_what_becomes_of_lines_and_of_published_rows_keeps_no_pipeline_from_being_served() -> None:
    log = {"kind": "log", "path": "access.log", "format": "combined", "lookback": "1d"}
    start = {"kind": "http", "name": "crm", "url": "https://crm.example/rows", "start": "2026-01-01T00:00:00Z"}
    spec = yaml.safe_load(SPEC)
    made = pipeline(sources=spec["sources"] | {"visits": log}, retention={"log_lines": "30d"}, deliver=[start])

    assert set(choose_columns(made.for_requests, "payments", TYPES, ()).types) == set(TYPES)
    assert not choose_columns(made.for_requests, "visits", {"_row_id": pa.string()}, ()).required
