"""Random histories: rows early, late and changed, runs that crash, overlap and are repeated; see `tests.histories`."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from penstock.database.connections import Database, close_engines, open_database
from penstock.models.registry import Registry
from penstock.settings import Settings
from tests.histories import GATE, GOODS, History, history_pipeline, score_goods
from tests.shop import START

moments = st.integers(0, 6 * 24).map(lambda hours: START + timedelta(hours=hours))
goods = st.integers(0, len(GOODS) - 1)
numbers = st.integers(0, 1000)
DEAREST = len(GOODS) - 8
"""Goods of the largest amount, which the model takes."""
soak = pytest.mark.soak(sampled=False)


class Machine(RuleBasedStateMachine):
    """What may happen, in any order."""

    make_history: Callable[[], History]

    @initialize(first=st.lists(st.tuples(moments, goods), max_size=12))
    def open_shop(self, first: list[Any]) -> None:
        self.it = type(self).make_history()
        for created, what in first:
            self.it.insert(created, what)

    @rule(created=moments, what=goods)
    def insert(self, created: Any, what: int) -> None:
        self.it.insert(created, what)

    @precondition(lambda self: self.it.free_keys())
    @rule(number=numbers, created=moments, what=goods)
    def update(self, number: int, created: Any, what: int) -> None:
        keys = self.it.free_keys()
        self.it.update(keys[number % len(keys)], created, what)

    @precondition(lambda self: self.it.free_keys())
    @rule(number=numbers)
    def delete(self, number: int) -> None:
        keys = self.it.free_keys()
        self.it.delete(keys[number % len(keys)])

    @precondition(lambda self: self.it.shop.dialect == "postgresql" and len(self.it.open) < 3)
    @rule(created=moments, what=goods, number=st.none() | numbers)
    def begin(self, created: Any, what: int, number: int | None) -> None:
        keys = self.it.free_keys()
        self.it.begin(created, what, keys[number % len(keys)] if number is not None and keys else None)

    @precondition(lambda self: self.it.open)
    @rule(number=numbers, commit=st.booleans())
    def end(self, number: int, commit: bool) -> None:
        self.it.end(number % len(self.it.open), commit=commit)

    @rule(hours=st.sampled_from([1, 23, 24, 30, 48]))
    def advance(self, hours: int) -> None:
        self.it.now += timedelta(hours=hours)

    @rule(lapse=st.booleans())
    def run(self, lapse: bool) -> None:
        if lapse:
            self.it.lapse()
        self.it.run()

    @rule(after=st.integers(1, 30))
    def kill(self, after: int) -> None:
        self.it.kill(after)

    @rule()
    def lapse(self) -> None:
        self.it.lapse()

    @precondition(lambda self: self.it.paused is None)
    @rule(steps=st.integers(1, 12))
    def pause(self, steps: int) -> None:
        self.it.pause()
        self.it.proceed(steps)

    @precondition(lambda self: self.it.paused is not None)
    @rule(steps=st.integers(1, 12))
    def proceed(self, steps: int) -> None:
        self.it.proceed(steps)

    @precondition(lambda self: self.it.paused is None and self.it.free_keys())
    @rule(steps=st.integers(4, 16), changed=st.lists(st.tuples(numbers, goods), min_size=2, max_size=6))
    def disturb(self, steps: int, changed: list[Any]) -> None:
        """Change rows under the hands of a run, where they are."""
        self.it.pause()
        self.it.proceed(steps)
        keys = self.it.free_keys()
        for number, what in changed:
            key = keys[number % len(keys)]
            self.it.update(key, self.it.rows[key].created, what)
        self.it.proceed(1000)

    @rule(day=st.integers(0, 4))
    def restate(self, day: int) -> None:
        self.it.restate(day)

    @rule(number=numbers)
    def withdraw(self, number: int) -> None:
        self.it.withdraw(number)

    @rule(number=numbers)
    def publish_again(self, number: int) -> None:
        self.it.publish_again(number)

    @rule(created=moments, number=numbers)
    def accept(self, created: Any, number: int) -> None:
        """Halt a day that is over, and accept one of the halted runs."""
        self.it.now = max(self.it.now, created + timedelta(days=1))
        self.it.insert(created, DEAREST)
        self.it.run()
        self.it.accept(number)

    @invariant()
    def readers_see_what_was_read(self) -> None:
        if hasattr(self, "it"):
            self.it.check()

    def teardown(self) -> None:
        if not hasattr(self, "it"):
            return
        try:
            self.it.finish()
        finally:
            self.it.close()
            close_engines()


@pytest.fixture
def machine(
    empty_database: Callable[..., str], registry: Registry, tmp_path: Path
) -> Callable[[str], type[RuleBasedStateMachine]]:
    """A machine whose every history has a shop and a warehouse of its own."""
    scores, made = score_goods(registry), iter(range(1_000_000))

    def make(dialect: str) -> type[RuleBasedStateMachine]:
        def make_history() -> History:
            places: dict[str, Database] = {}
            number = next(made)
            for name in ("shop", "warehouse"):
                url = empty_database(dialect, f"{name}{number}")
                places[name] = open_database(Settings(connections={name: url}), name)  # type: ignore[dict-item]
            return History(history_pipeline(GATE), places["shop"], places.__getitem__, registry, scores)

        return type("HistoryMachine", (Machine,), {"make_history": staticmethod(make_history)})

    return make


def play(machine: type[RuleBasedStateMachine], histories: int, steps: int = 14) -> None:
    unhurried = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    how = settings(
        max_examples=histories,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=unhurried,
        phases=[Phase.generate, Phase.shrink],
    )
    run_state_machine_as_test(machine, settings=how)


@pytest.mark.parametrize(
    ("dialect", "histories"),
    [
        ("sqlite", 5),
        pytest.param("sqlite", 10, marks=pytest.mark.slow),
        pytest.param("postgresql", 1, marks=pytest.mark.slow),
        pytest.param("sqlite", 200, marks=[soak, pytest.mark.timeout(1500)]),
        pytest.param("postgresql", 20, marks=[soak, pytest.mark.timeout(900)]),
    ],
)
def test_every_history_ends_with_what_the_model_says(
    machine: Callable[[str], type[RuleBasedStateMachine]], dialect: str, histories: int
) -> None:
    play(machine(dialect), histories)


@pytest.mark.slow
@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_a_history_accepts_a_halted_day_and_scores_it_again_after_a_change(
    machine: Callable[[str], type[RuleBasedStateMachine]], dialect: str
) -> None:
    """Halt, accept, accept again, then late rows that halt, and late rows that pass."""
    it = machine(dialect).make_history()  # type: ignore[attr-defined]
    it.insert(START + timedelta(hours=1), DEAREST)
    it.insert(START + timedelta(hours=2), DEAREST)
    it.now = START + timedelta(days=1)
    try:
        it.run()
        assert it.published() == []
        it.accept(0)
        assert len(it.published()) == 1
        it.check()
        it.accept(0)
        it.run()
        it.update(1, START + timedelta(hours=3), DEAREST)
        it.run()
        it.check()
        it.update(1, START + timedelta(hours=3), 0)
        it.update(2, START + timedelta(hours=3), 0)
        it.finish()
    finally:
        it.close()
        close_engines()
