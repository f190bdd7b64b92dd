"""Which pipelines can be served, and which columns their requests bring."""

import pyarrow as pa
import pytest
import yaml

from penstock.errors import ServeRefused
from penstock.serving.served_pipeline import choose_columns, refuse_unservable
from penstock.spec.pipeline import Pipeline
from tests.shop import SPEC

TYPES = {"payment_id": pa.int64(), "created_at": pa.date32(), "updated_at": pa.date32(), "amount": pa.float64()}


def pipeline(**parts: object) -> Pipeline:
    return Pipeline.model_validate(yaml.safe_load(SPEC) | {"destination": {"table": "scores"}} | parts)


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
