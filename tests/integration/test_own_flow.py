"""The tasks are building blocks: the example of a hand-written flow runs and publishes."""

from collections.abc import Callable

import pytest

from penstock import Project
from tests.conftest import view_rows
from tests.shop import Place

pytestmark = pytest.mark.usefixtures("prefect_api")


def test_the_example_flow_publishes_once_the_delivery_is_there(make_place: Callable[..., Place]) -> None:
    from penstock.examples.own_flow import PIPELINE, score_after_delivery

    place = make_place()
    delivery = place.folder / "delivery.csv"

    assert score_after_delivery(delivery) == 0
    delivery.write_text("arrived")
    assert score_after_delivery(delivery) == 750

    assert [run.state for run in Project().list_runs(PIPELINE)] == ["published"]
    with pytest.raises(Exception, match="amount"):
        view_rows(place.warehouse, "own_risk_scores")  # nothing but the key and the score was asked for
