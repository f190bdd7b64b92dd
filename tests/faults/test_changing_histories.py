"""Random histories in which people change the pipeline under its runs; see `tests.changing_histories`."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from penstock import scoring_steps
from penstock.database.connections import Database, open_database
from penstock.ledger import claims, coverage, destinations, writer
from penstock.ledger.destinations import find_overlapping
from penstock.run import planning
from penstock.settings import Settings
from tests.changing_histories import (
    GRAINS,
    GRIDS,
    KEYS,
    MODELS,
    NAMES,
    STARTS,
    TABLES,
    ChangingHistory,
    score_all,
    two_models,
)
from tests.faults.test_histories import Machine, goods, moments, numbers, play, soak
from tests.histories import history_pipeline


class ChangingMachine(Machine):
    """What may happen to a pipeline that people change, in any order."""

    it: ChangingHistory

    @initialize(first=st.lists(st.tuples(moments, goods), max_size=12), days=st.integers(1, 4))
    def open_shop(self, first: list[Any], days: int) -> None:
        """Begin with some days published, so that every change meets something."""
        super().open_shop(first)
        self.it.now += timedelta(days=days)
        self.it.run()

    @rule(grain=st.sampled_from(GRAINS), hours=st.sampled_from([0, 12, 24, 48]))
    def change_grain(self, grain: str, hours: int) -> None:
        self.it.change_grain(grain)
        self.run_later(hours)

    @rule(grid=st.sampled_from(GRIDS), hours=st.sampled_from([0, 24, 168]))
    def change_grid(self, grid: dict[str, str], hours: int) -> None:
        self.it.change_grid(grid)
        self.run_later(hours)

    @rule(moved=st.sampled_from(STARTS), hours=st.sampled_from([0, 12, 24, 48]))
    def move_start(self, moved: int, hours: int) -> None:
        self.it.move_start(moved)
        self.run_later(hours)

    @rule(table=st.sampled_from(TABLES), key=st.sampled_from(KEYS), hours=st.sampled_from([0, 24]))
    def change_table(self, table: str, key: Any, hours: int) -> None:
        self.it.change_table(table, key)
        self.run_later(hours)

    @rule(ref=st.sampled_from(MODELS))
    def change_model(self, ref: str) -> None:
        self.it.change_model(ref)

    def run_later(self, hours: int) -> None:
        """Let the changed pipeline run; with 0 hours the next rule comes before its run."""
        if hours:
            self.it.now += timedelta(hours=hours)
            self.it.run()

    @precondition(lambda self: self.it.paused is None)
    @rule(name=st.sampled_from(NAMES))
    def rename(self, name: str) -> None:
        self.it.rename(name)

    @rule()
    def resolve(self) -> None:
        self.it.resolve()

    @rule(hours=numbers, length=st.integers(1, 96))
    def restate_range(self, hours: int, length: int) -> None:
        self.it.restate_hours(hours % 144 - 12, length)


@pytest.fixture
def machine(empty_database: Callable[..., str], tmp_path: Path) -> Callable[[str], type[RuleBasedStateMachine]]:
    """A machine whose every history has a shop and a warehouse of its own."""
    registry, made = two_models(tmp_path), iter(range(1_000_000))
    scores = {version: score_all(registry, version) for version in ("1", "2")}

    def make(dialect: str) -> type[RuleBasedStateMachine]:
        def make_history() -> ChangingHistory:
            places: dict[str, Database] = {}
            number = next(made)
            for name in ("shop", "warehouse"):
                url = empty_database(dialect, f"{name}{number}")
                places[name] = open_database(Settings(connections={name: url}), name)
            beside = history_pipeline().model_copy(update={"challengers": ({"model": "card-risk@2"},)})
            return ChangingHistory(beside, places["shop"], places.__getitem__, registry, scores["1"], scores_of=scores)

        return type("HistoryMachine", (ChangingMachine,), {"make_history": staticmethod(make_history)})

    return make


@pytest.mark.parametrize(
    ("dialect", "histories"),
    [
        ("sqlite", 5),
        pytest.param("sqlite", 15, marks=pytest.mark.slow),
        pytest.param("duckdb", 1, marks=pytest.mark.slow),
        pytest.param("postgresql", 1, marks=pytest.mark.slow),
        pytest.param("sqlite", 300, marks=[soak, pytest.mark.timeout(3000)]),
        pytest.param("postgresql", 30, marks=[soak, pytest.mark.timeout(1500)]),
        pytest.param("duckdb", 30, marks=[soak, pytest.mark.timeout(1500)]),
    ],
)
def test_no_change_of_a_pipeline_shows_readers_a_wrong_row(
    machine: Callable[[str], type[RuleBasedStateMachine]], dialect: str, histories: int
) -> None:
    play(machine(dialect), histories)


def allow_overlaps(patch: pytest.MonkeyPatch) -> None:
    """Let the ledger see only runs of exactly the same interval, as version 7 did."""

    def exact(connection: Any, name: str, variant: str, interval: Any, state: str = "published") -> Any:
        return [r for r in find_overlapping(connection, name, variant, interval, state) if r.interval == interval]

    for module in (claims, writer):
        patch.setattr(module, "find_overlapping", exact)
    patch.setattr(planning, "_refuse_partial_overlaps", lambda *_: None)


def allow_any_owner(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(claims, "take_ownership", lambda *_: None)
    patch.setattr(writer, "owns", lambda *_: True)
    patch.setattr(scoring_steps, "refuse_others", lambda *_: None)


def forget_the_table(patch: pytest.MonkeyPatch) -> None:
    """Know what is done for a pipeline, whatever its table, as version 7 did."""
    for module in (coverage, destinations):
        patch.setattr(module, "destination_name", lambda *_: "one")


@pytest.mark.parametrize(
    ("remove_guard", "change", "found"),
    [
        (allow_overlaps, lambda it: it.move_start(6), "live runs overlap"),
        (allow_any_owner, lambda it: it.rename("payment-risk"), "has several owners"),
        (forget_the_table, lambda it: it.change_table("Other_scores", KEYS[0]), "is not published"),
    ],
)
def test_the_histories_see_what_a_guard_prevents(
    machine: Callable[[str], type[RuleBasedStateMachine]],
    monkeypatch: pytest.MonkeyPatch,
    remove_guard: Callable[[pytest.MonkeyPatch], None],
    change: Callable[[ChangingHistory], None],
    found: str,
) -> None:
    def play_one() -> None:
        history = machine("sqlite").make_history()  # type: ignore[attr-defined]
        history.now += timedelta(days=3)
        history.run()
        change(history)
        history.now += timedelta(days=1)
        history.run()
        history.check()

    play_one()
    remove_guard(monkeypatch)
    with pytest.raises(AssertionError, match=found):
        play_one()
