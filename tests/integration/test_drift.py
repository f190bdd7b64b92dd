"""Drift is counted in the partitions, judged in the audit, and kept in the ledger."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from penstock.ledger.profiles import read_profiles
from penstock.ledger.reader import list_runs, validations_of
from penstock.run_types import ColumnProfile, Validation
from penstock.spec.yaml_file import load_pipeline
from penstock.tasks.process_resources import connect
from penstock.upkeep.verify import verify_ledger
from tests.driver import Driver
from tests.shop import SPEC, START, Place, payments_table

MakePlace = Callable[..., Place]


def spec_with(drift: str, partition_rows: int = 150) -> str:
    return SPEC.replace("partition_rows: 150", f"partition_rows: {partition_rows}\ndrift: {drift}")


def driver_of(place: Place) -> Driver:
    return Driver(load_pipeline(place.spec), connect, place.registry)


def change_payments(place: Place, day: int, **values: Any) -> None:
    """Change the payments of one day, as an application would."""
    table = payments_table()
    first = START + timedelta(days=day)
    zone = None if place.shop.dialect != "postgresql" else first.tzinfo
    begin, end = first.replace(tzinfo=zone), (first + timedelta(days=1)).replace(tzinfo=zone)
    with place.shop.writing() as connection:
        chosen = sa.update(table).where(table.c.created_at >= begin, table.c.created_at < end)
        connection.execute(chosen.values(**values))


def drift_of(place: Place, run_id: str) -> list[Validation]:
    return [v for v in validations_of(place.warehouse, run_id) if v.stage == "drift"]


def newest_profiles(place: Place) -> dict[str, ColumnProfile]:
    return read_profiles(place.warehouse, list_runs(place.warehouse)[0].run_id)


def test_a_run_like_the_reference_has_profiles_and_no_alarm(make_place: MakePlace) -> None:
    place = make_place(spec=spec_with("{against: model, watch: {'*': critical}}"), days=1, a_day=600)
    driver_of(place).run(START + timedelta(days=1))

    run = list_runs(place.warehouse)[0]
    assert run.state == "published"
    profiles = newest_profiles(place)
    assert set(profiles) == {"amount", "items", "country", "first", "score"}
    assert {each.counts.rows for each in profiles.values()} == {600}
    assert all(each.baseline and each.baseline.name == "card-risk/1" for each in profiles.values())
    (found,) = drift_of(place, run.run_id)
    assert found.outcome == "passed"
    assert found.expectation == "5 columns against the reference rows of card-risk/1"
    assert verify_ledger(place.warehouse) == ()
