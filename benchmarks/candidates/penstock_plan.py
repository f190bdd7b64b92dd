"""Penstock on W8: plan when nothing is due. The ledger is in the source."""

from typing import TYPE_CHECKING

from benchmarks.place import Place
from benchmarks.workload import work_of
from benchmarks.workloads import w8

if TYPE_CHECKING:
    from penstock.database.connections import Database
    from penstock.run.planning import Plan
    from penstock.settings import Settings
    from penstock.spec.pipeline import Pipeline


def ready(place: Place) -> None:
    """Plan once: a process loads some things once."""
    make_plan(place)


def run(place: Place) -> None:
    for _ in range(w8.PLANS):
        plan = make_plan(place)
        if plan.intervals or plan.published != place.rows:
            raise RuntimeError(f"{len(plan.intervals)} intervals are due, and {plan.published:,} are published")


def make_plan(place: Place) -> "Plan":
    from penstock.database.connections import Connector, open_database
    from penstock.models.registry import Registry
    from penstock.privacy.masking import NO_MASKING
    from penstock.scoring_steps import ScoringSteps

    settings = settings_of(place)
    connect = Connector(lambda name: open_database(settings, name), ())
    steps = ScoringSteps(pipeline_of(place), settings, connect, Registry(place.models), NO_MASKING)
    return steps.plan(work_of(place).end, "due", None, None)


def open_ledger(place: Place) -> "Database":
    from penstock.database.connections import open_database

    return open_database(settings_of(place), "warehouse")


def settings_of(place: Place) -> "Settings":
    from penstock.settings import Settings

    return Settings(connections={"warehouse": place.shop, "shop": place.shop})


def pipeline_of(place: Place) -> "Pipeline":
    from penstock.spec.pipeline import Pipeline

    return Pipeline.model_validate(work_of(place).spec)
