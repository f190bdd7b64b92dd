"""The tests' driver does what the flow does, and a killed run is healed by the next."""

from collections.abc import Callable
from datetime import timedelta

from penstock.ledger.reader import list_runs
from penstock.spec.yaml_file import load_pipeline
from penstock.tasks.process_resources import connect
from tests.conftest import view_rows
from tests.driver import Driver, lapse_leases
from tests.shop import SPEC, START, Place


def test_a_run_killed_at_every_step_is_healed_by_the_next(make_place: Callable[..., Place]) -> None:
    place = make_place(spec=SPEC.replace("partition_rows: 150", "partition_rows: 8"), days=1, a_day=20)
    driver = Driver(load_pipeline(place.spec), connect, place.registry)
    now = START + timedelta(days=1)
    killed: list[list[str]] = []
    while not list_runs(place.warehouse, states=["published"]):
        killed.append(driver.kill(now, after=len(killed) + 1))
        lapse_leases(place.warehouse)

    assert killed[-1][-1] == "publish"
    assert len(view_rows(place.warehouse)) == 20
    assert driver.run(now) == ["resolve", "collect logs", "plan"]
    assert {run.state for run in list_runs(place.warehouse)} == {"abandoned", "published"}
