"""What is chosen as a reason, and whose reasons the budget pays for."""

from decimal import Decimal
from random import Random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.explain.budget import plan_reasons
from penstock.explain.reasons import choose_features
from penstock.models.booster import Contributions
from penstock.run.key_hash import hash_keys
from penstock.run_types import ChosenRows, keep_rows
from penstock.spec.reasons import Direction, Reasons, ReasonsBudget

FOUND = Contributions(np.array([[0.5, -0.9, 0.0], [-0.1, 0.2, 0.2], [-1.0, -2.0, -3.0]], np.float32), np.zeros(3))


@pytest.mark.parametrize(
    ("direction", "top", "chosen"),
    [
        ("both", 3, [(0, 1), (0, 0), (1, 1), (1, 2), (1, 0), (2, 2), (2, 1), (2, 0)]),
        ("raises", 3, [(0, 0), (1, 1), (1, 2)]),
        ("lowers", 1, [(0, 1), (1, 0), (2, 2)]),
    ],
)
def test_the_largest_contributions_in_the_direction_come_first(
    direction: Direction, top: int, chosen: list[tuple[int, int]]
) -> None:
    places, features = choose_features(FOUND, top, direction)

    assert list(zip(places.tolist(), features.tolist(), strict=True)) == chosen


def budget(**given: float) -> Reasons:
    return Reasons(when="true", budget=ReasonsBudget.model_validate(given))


def test_a_run_within_its_budget_explains_every_row() -> None:
    plan = plan_reasons(budget(rows=1000, seconds=2.0), 1000, 0.001)

    assert (plan.explained, plan.seconds) == (1000, 1.0)
    assert plan.describe() == "1,000 rows at most, 1.0 s CPU (1 ms CPU a row)"


@pytest.mark.parametrize(("rows", "seconds", "most"), [(400, 10_000.0, 400), (50_000, 0.4, 400)])
def test_the_smaller_limit_counts(rows: int, seconds: float, most: int) -> None:
    plan = plan_reasons(budget(rows=rows, seconds=seconds), 100_000, 0.001)

    assert (plan.most_rows, plan.explained) == (most, 400)
    assert plan.seconds == pytest.approx(0.4)
    assert plan.describe().startswith("400 of 100,000 rows at most, 0.4 s CPU (1 ms CPU a row); if `when` chooses more")


def test_a_budget_without_rows_explains_none() -> None:
    assert plan_reasons(budget(rows=0), 10, 0.001).explained == 0
    assert choose(range(10), (10,), 0) == (set(), 10)


def choose(numbers: "range", parts: tuple[int, ...], limit: int, interval: str = "monday") -> tuple[set[int], int]:
    """Return the keys that are kept of partitions of these sizes, and how many are not."""
    chosen, begin = ChosenRows(), 0
    for size in parts:
        keys = pa.table({"customer": list(numbers[begin : begin + size])})
        begin += size
        part = keep_rows(keys, hash_keys(keys, interval), limit) if size else ChosenRows()
        assert part.kept_rows <= limit
        chosen = chosen.add(part)
        assert chosen.kept_rows <= limit
    assert chosen.total == begin
    return {key for each in chosen.kept for key in each.rows["customer"].to_pylist()}, chosen.over_budget


@pytest.mark.parametrize("limit", [1, 50, 199, 200, 201, 1000])
def test_any_cut_and_order_of_partitions_keeps_the_same_rows(limit: int) -> None:
    whole = choose(range(200), (200,), limit)

    assert len(whole[0]) == min(limit, 200)
    assert whole[1] == 200 - len(whole[0])
    for parts in ((50,) * 4, (1,) * 200, (0, 190, 0, 10), (10, 190)):
        assert choose(range(200), parts, limit) == whole
    backwards = choose(range(199, -1, -1), (5,) * 40, limit)
    assert backwards == whole


def test_the_rows_with_the_lowest_hashes_are_kept() -> None:
    keys = pa.table({"customer": list(range(500))})
    hashes = hash_keys(keys, "monday")

    kept, _ = choose(range(500), (100,) * 5, 60)

    assert kept == set(np.argsort(hashes)[:60].tolist())


def test_another_interval_chooses_other_keys() -> None:
    first, second = (choose(range(20_000), (20_000,), 2000, interval)[0] for interval in ("monday", "tuesday"))

    assert len(first) == len(second) == 2000
    assert 100 < len(first & second) < 300


def test_rows_of_other_types_are_kept_beside_each_other() -> None:
    whole, text = pa.table({"customer": [1, 2], "n": [1, 2]}), pa.table({"customer": [3], "n": ["x"]})

    chosen = keep_rows(whole, hash_keys(whole.select(["customer"])), 9).add(
        keep_rows(text, hash_keys(text.select(["customer"])), 9)
    )
    more = chosen.add(keep_rows(whole, hash_keys(whole.select(["customer"])), 9))

    assert [each.rows.num_rows for each in chosen.kept] == [2, 1]
    assert [each.rows.num_rows for each in more.kept] == [4, 1]


def test_equal_numbers_are_chosen_alike_whatever_their_type() -> None:
    typed = [pa.table({"n": [kind(number) for number in range(500)]}) for kind in (int, float, Decimal)]

    assert len({tuple(hash_keys(keys, "monday")) for keys in typed}) == 1


@given(st.lists(st.integers(0, 30), max_size=60), st.integers(0, 20), st.randoms(use_true_random=False))
def test_equal_hashes_are_kept_or_left_together_within_the_limit(hashes: list[int], limit: int, random: Random) -> None:
    rows = pa.table({"hash": pa.array(hashes, pa.int64())})
    whole = keep_rows(rows, hashes, limit)
    cut = random.randrange(len(hashes) + 1)

    parts = keep_rows(rows.slice(0, cut), hashes[:cut], limit).add(keep_rows(rows.slice(cut), hashes[cut:], limit))

    assert whole.kept_rows <= limit
    assert parts.kept_rows <= limit
    assert parts.total == whole.total == len(hashes)
    seen = [number for each in whole.kept for number in each.rows["hash"].to_pylist()]
    assert sorted(seen) == sorted(number for number in hashes if number in seen)
