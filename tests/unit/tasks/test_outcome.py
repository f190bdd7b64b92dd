"""How flow runs of other processes ended: by their label, and by their old names."""

from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Cancelled, Completed, Crashed, Failed

from penstock.tasks.outcome import LABEL, read_outcome


def run(state: State[Any], label: str = "") -> FlowRun:
    return FlowRun(flow_id=uuid4(), state=state, labels={LABEL: label} if label else {})


@pytest.mark.parametrize(
    ("state", "label", "outcome"),
    [
        (Completed(), "published", "published"),
        (Completed(), "skipped", "skipped"),
        (Completed(), "planned", "planned"),
        (Failed(), "halted", "halted"),
        (Failed(), "failed", "failed"),
        (Failed(), "", "failed"),
        (Failed(message="Halted: says a driver"), "failed", "failed"),
        (Completed(), "", "published"),
        (Crashed(), "halted", "failed"),  # a retry of a halted run, whose process died
        (Completed(), "halted", "published"),
        (Cancelled(), "halted", "cancelled"),
        (Failed(name="TimedOut"), "", "failed"),
    ],
)
def test_the_label_decides_within_the_type_of_the_state(state: State[Any], label: str, outcome: str) -> None:
    assert read_outcome(run(state, label)) == outcome


@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        (Failed(name="Halted"), "halted"),
        (Completed(name="Skipped"), "skipped"),
        (Completed(name="Planned"), "planned"),
    ],
)
def test_runs_of_0_1_still_read_right_by_the_names_of_their_states(state: State[Any], outcome: str) -> None:
    assert read_outcome(run(state)) == outcome
