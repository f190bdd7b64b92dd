"""The parameters of flow runs are the JSON that Prefect would make, without FastAPI."""

import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from fastapi.encoders import jsonable_encoder
from prefect import flow

from penstock.interval import DataInterval
from penstock.run.planning import PlannedInterval
from penstock.run_types import ModelPin
from penstock.spec.yaml_file import load_pipeline
from penstock.tasks.flow_parameters import serialize_without_fastapi, to_json

SPECS = sorted(Path("deployments/pipelines").glob("*.yaml")) + sorted(Path("examples").rglob("*.yaml"))
NOON = datetime(2026, 1, 1, 12, 0, 0, 5, tzinfo=UTC)


@dataclass(frozen=True)
class Nested:
    pins: dict[str, ModelPin]
    days: tuple[date, ...]


@pytest.mark.parametrize(
    "value",
    [
        *("card-risk", "", 0, 5, 0.5, True, None, NOON, NOON.date(), NOON.replace(tzinfo=None)),
        [1, "a", None],
        PlannedInterval(DataInterval(NOON, NOON + timedelta(days=1)), "missing"),
        PlannedInterval(None, "snapshot"),
        {"score": ModelPin("card-risk", "1", "a" * 64)},
        Nested({"one": ModelPin("a", "2", "b")}, (NOON.date(), NOON.date())),
    ],
)
def test_each_parameter_is_converted_as_fastapi_does(value: Any) -> None:
    converted = to_json(value)

    assert repr(converted) == repr(jsonable_encoder(value))


def test_specs_are_converted_as_fastapi_does() -> None:
    loaded = [load_pipeline(file) for file in SPECS if "name:" in file.read_text() and "sources:" in file.read_text()]

    assert loaded
    assert [repr(to_json(spec)) for spec in loaded] == [repr(jsonable_encoder(spec)) for spec in loaded]


def test_prefect_converts_other_types() -> None:
    @flow
    def other(amount: Any, name: Any) -> None: ...

    serialize_without_fastapi(other)

    assert other.serialize_parameters({"amount": Decimal("1.5"), "name": "a"}) == {"amount": 1.5, "name": "a"}
    assert other.serialize_parameters({"amount": object(), "name": "a"})["name"] == "a"


def test_the_scoring_flow_converts_its_parameters_without_fastapi() -> None:
    script = (
        "import sys\n"
        "from datetime import datetime, UTC\n"
        "from penstock.flows.score import score\n"
        "given = {'pipeline': 'a', 'start': datetime(2026, 1, 1, tzinfo=UTC), 'partition_rows': 5, 'dry_run': False}\n"
        "print(score.serialize_parameters(given), 'fastapi' in sys.modules)\n"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    shown = "{'pipeline': 'a', 'start': '2026-01-01T00:00:00+00:00', 'partition_rows': 5, 'dry_run': False}"
    assert done.stdout.strip() == f"{shown} False"
