"""Clocks that are ahead, set back or jump in mid-run. Where the warehouse is a file, leases go by the process's own."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, tzinfo
from itertools import cycle

import pytest

import penstock.database.dialects.base
from penstock.database.connections import Database, close_engines, open_database
from penstock.ledger.reader import list_runs
from penstock.models.registry import Registry
from penstock.report.card import run_card
from penstock.settings import Settings
from tests.conftest import DIALECTS, view_rows
from tests.faults.conftest import Tell
from tests.histories import DAY, History, history_pipeline, score_goods
from tests.shop import START, Place

soak = pytest.mark.soak
HOUR = timedelta(hours=1)
FILES = pytest.mark.parametrize("dialect", ["sqlite", pytest.param("duckdb", marks=soak)])
"""On Postgres a clock that matters is the server's."""
LEASE = timedelta(hours=1)
JUMPS = (timedelta(), DAY, -3 * DAY, 400 * DAY, -HOUR)

Clock = Callable[[Callable[[], datetime]], None]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Set the clock that leases and the ledger go by."""
    real = penstock.database.dialects.base.datetime

    def let_it_be(tell: Callable[[], datetime]) -> None:
        class Faked(real):  # type: ignore[misc, valid-type] # a class that is found at run time
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> datetime:
                return tell().astimezone(tz)

        monkeypatch.setattr(penstock.database.dialects.base, "datetime", Faked)

    return let_it_be


@pytest.fixture
def history(empty_database: Callable[..., str], registry: Registry) -> Iterator[Callable[[str], History]]:
    """Open a shop with payments in each of the first three days; its runs go by `history.now`, as leases do."""
    made: list[History] = []

    def make(dialect: str) -> History:
        places: dict[str, Database] = {}
        for name in ("shop", "warehouse"):
            settings = Settings(connections={name: empty_database(dialect, name)})  # type: ignore[dict-item]
            places[name] = open_database(settings, name)
        it = History(history_pipeline(), places["shop"], places.__getitem__, registry, score_goods(registry))
        for number in range(15):
            it.insert(START + number * 5 * HOUR, number)
        made.append(it)
        return it

    yield make
    for it in made:
        it.close()
    close_engines()


def states(it: History) -> list[str]:
    """Return the states of all runs, the oldest interval first, and of each interval the newest run."""
    return [run.state for run in sorted(list_runs(it.driver.warehouse, limit=100), key=lambda run: run.interval_key)]


@FILES
def test_a_clock_that_is_set_back_between_runs_takes_nothing_back_and_scores_nothing_twice(
    history: Callable[[str], History], clock: Clock, dialect: str, tell: Tell
) -> None:
    it = history(dialect)
    clock(lambda: it.now)
    it.now = START + 3 * DAY
    it.run()
    it.now -= 2 * DAY + HOUR
    nothing = it.driver.run(it.now)
    it.update(15, START + 70 * HOUR, 3)
    it.now = START + 3 * DAY + HOUR
    it.run()
    it.now -= 30 * 365 * DAY
    nothing += it.driver.run(it.now)

    assert nothing == ["resolve", "collect logs", "plan"] * 2
    assert states(it) == ["published", "published", "published", "superseded"]
    it.check()
    tell("the clock is set back between runs", dialect, "nothing to do at first; later it goes on where it was")


@FILES
def test_an_interval_scored_too_early_by_a_clock_that_was_ahead_is_restated_once_it_is_over(
    history: Callable[[str], History], clock: Clock, dialect: str, tell: Tell
) -> None:
    it = history(dialect)
    clock(lambda: it.now)
    it.now = START + 4 * DAY  # by the right clock the fourth day has just begun
    it.run()
    it.insert(START + 3 * DAY + HOUR, 5)
    it.insert(START + 3 * DAY + 20 * HOUR, 6)
    it.now = START + 3 * DAY + 2 * HOUR
    it.driver.run(it.now)
    early = states(it)
    it.now = START + 4 * DAY + HOUR
    it.run()

    assert early == ["published"] * 4
    assert states(it) == ["published"] * 4 + ["superseded"]
    it.finish()
    tell(
        "the clock is ahead: an interval is scored before it is over",
        dialect,
        "restated by its `lookback` once it is over",
    )


@FILES
def test_a_run_whose_clock_jumps_at_every_step_publishes_what_it_read(
    history: Callable[[str], History], clock: Clock, dialect: str, tell: Tell
) -> None:
    it = history(dialect)
    jumps = cycle(JUMPS)
    clock(lambda: it.now + next(jumps))
    it.now = START + 3 * DAY
    it.run()

    assert states(it) == ["published"] * 3
    assert not [run for run in list_runs(it.driver.warehouse) if run.seconds is not None and run.seconds < 0]
    it.finish()
    tell("the clock jumps each time it is read", dialect, "published")


@FILES
def test_a_jump_beyond_the_lease_lets_another_run_take_over_and_the_first_publishes_nothing(
    history: Callable[[str], History], clock: Clock, dialect: str, tell: Tell
) -> None:
    it = history(dialect)
    clock(lambda: it.now)
    it.now = START + DAY
    it.pause()
    it.proceed(9)
    assert states(it) == ["running"]
    it.now += 2 * HOUR  # the clock alone: nobody has waited
    it.driver.run(it.now)
    it.now -= HOUR
    it.proceed(1000)

    assert sorted(states(it)) == ["abandoned", "published"]
    it.check()
    it.finish()
    tell(
        "the clock jumps beyond a lease in mid-run", dialect, "another run's rows stay; the first run publishes nothing"
    )


@FILES
def test_a_dead_runs_lease_from_a_clock_that_was_ahead_holds_its_interval_until_then_and_no_other(
    history: Callable[[str], History], clock: Clock, dialect: str, tell: Tell
) -> None:
    it = history(dialect)
    now = START + 3 * DAY
    clock(lambda: now)
    it.now, now = START + 3 * DAY, START + 5 * DAY
    it.kill(4)
    now = START + 3 * DAY
    said = it.driver.run(it.now)
    held = states(it)
    now = START + 5 * DAY + 2 * HOUR
    it.driver.run(it.now)

    assert "busy" in said
    assert held == ["running", "published", "published"]
    assert sorted(states(it)) == ["abandoned", "published", "published", "published"]
    it.finish()
    tell(
        "a run dies while its clock is two days ahead",
        dialect,
        "its interval is busy for two days, others are scored; then healed",
    )


@soak
@pytest.mark.usefixtures("prefect_api")
@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_real_flow_under_a_jumping_clock_shows_the_same_rows(
    make_place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch, clock: Clock, dialect: str, tell: Tell
) -> None:
    from penstock.cli import app  # noqa: F401 # what prints the runs
    from penstock.flows.score import score

    place = make_place(dialect, dialect)
    assert score(str(place.spec), end="2026-01-04", return_state=True).name == "Completed"
    calm = view_rows(place.warehouse)
    real, jumps = penstock.database.dialects.base.datetime, cycle(JUMPS)
    clock(lambda: real.now().astimezone() + next(jumps))
    monkeypatch.setattr("penstock.flows.score.datetime", penstock.database.dialects.base.datetime)

    again = score(str(place.spec), mode="restate", start="2026-01-01", end="2026-01-04", return_state=True)

    assert again.name == "Completed", again.message
    assert view_rows(place.warehouse) == calm
    runs = list_runs(place.warehouse, limit=100)
    assert sorted(run.state for run in runs) == ["published"] * 3 + ["superseded"] * 3
    for run in runs:
        run_card(place.warehouse, run.run_id)
    tell("the clock jumps each time it is read, real flow", dialect, "the same rows")
