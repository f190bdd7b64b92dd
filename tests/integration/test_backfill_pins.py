"""The model versions of a backfill: pinned once, and taken over by the backfill that continues it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from penstock.database.connections import Database, open_database
from penstock.ledger.backfills import PinnedBackfill, end_backfills, pin_backfill
from penstock.run_types import ModelPin, Pins
from penstock.spec.yaml_file import parse_pipeline
from tests.conftest import DIALECTS
from tests.shop import SPEC

PIPELINE = parse_pipeline(SPEC.encode(), "x")
FIRST = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(params=DIALECTS)
def warehouse(request: Any, use_settings: Callable[..., Any], database_url: Callable[[str, str], str]) -> Database:
    return open_database(use_settings(warehouse=database_url(request.param, "warehouse")), "warehouse")


def version(number: int) -> Pins:
    return {"score": ModelPin("card-risk", str(number), "d" * 64)}


def pin(
    database: Database, flow_run: str, days: tuple[int, int] | None, champion: int, *, restate: bool = False
) -> PinnedBackfill:
    """Begin a backfill of some days while the champion is a version."""
    start, end = (FIRST + timedelta(days=day) for day in days) if days else (None, None)
    return pin_backfill(database, PIPELINE, flow_run, start, end, restate=restate, resolve=lambda: version(champion))


def test_a_backfill_keeps_its_versions_when_the_alias_moves(warehouse: Database) -> None:
    first = pin(warehouse, "a", (0, 8), champion=1)
    assert pin(warehouse, "a", (0, 8), champion=2) == first == PinnedBackfill(version(1), None)


@pytest.mark.parametrize("days", [(0, 8), (3, 5), (7, 20), None])
def test_a_backfill_that_continues_an_unfinished_one_takes_its_versions(
    warehouse: Database, days: tuple[int, int] | None
) -> None:
    pin(warehouse, "a", (0, 8), champion=1)

    second = pin(warehouse, "b", days, champion=2)
    third = pin(warehouse, "c", days, champion=3)

    assert second.pins == third.pins == version(1)
    assert second.continues is not None
    assert third.continues == second.continues


def test_a_range_beside_an_unfinished_one_has_versions_of_its_own(warehouse: Database) -> None:
    pin(warehouse, "a", (0, 8), champion=1)
    assert pin(warehouse, "b", (8, 9), champion=2) == PinnedBackfill(version(2), None)


def test_a_finished_backfill_is_not_continued(warehouse: Database) -> None:
    pin(warehouse, "a", (0, 8), champion=1)
    end_backfills(warehouse, PIPELINE, FIRST, FIRST + timedelta(days=8))
    assert pin(warehouse, "b", (0, 8), champion=2) == PinnedBackfill(version(2), None)


def test_a_part_that_is_done_does_not_finish_a_longer_backfill(warehouse: Database) -> None:
    pin(warehouse, "a", (0, 8), champion=1)
    end_backfills(warehouse, PIPELINE, FIRST, FIRST + timedelta(days=4))
    assert pin(warehouse, "b", (5, 6), champion=2).pins == version(1)


def test_a_restate_takes_the_versions_of_now_and_ends_unfinished_ones(warehouse: Database) -> None:
    pin(warehouse, "a", (0, 8), champion=1)

    restate = pin(warehouse, "b", (0, 8), champion=2, restate=True)

    assert restate == PinnedBackfill(version(2), None)
    assert pin(warehouse, "c", (0, 8), champion=3).pins == version(2)  # the restate itself is unfinished


def begin(database: Database, flow_run: str, versions: dict[str, str], *names: str, restate: bool = False) -> Any:
    """Begin a backfill of eight days with challengers, while aliases stand for versions."""
    wanted = [{"model": name} for name in names]
    pipeline = PIPELINE.model_copy(update={"challengers": wanted})
    return pin_backfill(
        *(database, pipeline, flow_run, FIRST, FIRST + timedelta(days=8)),
        restate=restate,
        resolve=lambda: version(1),
        resolve_challenger=lambda ref: versions.get(str(ref)),
    ).challengers


def test_a_backfill_keeps_the_versions_of_its_challengers_too(warehouse: Database) -> None:
    first = begin(warehouse, "a", {"r@new": "r@2"}, "r@new", "r@odd")
    later = {"r@new": "r@3", "r@odd": "r@3", "r@more": "r@4"}

    again = begin(warehouse, "a", later, "r@new", "r@odd")
    continued = begin(warehouse, "b", later, "r@new", "r@odd", "r@more")
    restated = begin(warehouse, "c", later, "r@new", restate=True)

    assert first == again == {"r@new": "r@2", "r@odd": None}
    assert continued == {"r@new": "r@2", "r@odd": None, "r@more": "r@4"}
    assert restated == {"r@new": "r@3"}
