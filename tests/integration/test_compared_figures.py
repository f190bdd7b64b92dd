"""The figures of two scorings, against pandas and NumPy, on hand-made runs in three warehouses."""

import itertools
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.database.connections import Database, close_engines
from penstock.errors import CompareRefused
from penstock.monitor.agreement import RankAgreement, ScoreAgreement
from penstock.monitor.score_shift import decile_cuts, stability_of_shares
from penstock.report.paired_figures import compare_decision, compare_ranks, compare_score
from penstock.report.paired_rows import OutputColumns
from tests.compared import join_runs, open_warehouse, write_run
from tests.conftest import DIALECTS

_tables = itertools.count(1)
ROWS = {"key": pa.int64(), "score": pa.float64(), "decision": pa.string(), "flag": pa.bool_(), "band": pa.int64()}
SCORES = st.one_of(st.none(), st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(-1e6, 1e6, allow_subnormal=False))
VALUES = st.fixed_dictionaries(
    {
        "score": SCORES,
        "decision": st.sampled_from([None, "pass", "block", "review"]),
        "flag": st.sampled_from([None, True, False]),
        "band": st.integers(0, 3),
    }
)
VALUED = {"score", "decision", "flag", "band"}
SIDE = st.dictionaries(st.integers(1, 25), VALUES, max_size=25)


@pytest.fixture(params=DIALECTS)
def warehouse(request: pytest.FixtureRequest, database_url: Callable[[str, str], str]) -> Any:
    yield open_warehouse(database_url(request.param, "warehouse"))
    close_engines()


def table_of(side: dict[int, dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist([{"key": key, **values} for key, values in side.items()], pa.schema(ROWS))


def test_the_figures_are_those_of_pandas(warehouse: Database) -> None:
    @settings(max_examples=10)
    @given(st.lists(st.tuples(SIDE, SIDE), min_size=1, max_size=2))
    def compare(days: list[tuple[Any, Any]]) -> None:
        table = f"scores_{next(_tables)}"
        # A row without NULLs in a day that is not compared, so that every column has a value.
        write_run(
            warehouse, table_of({0: {"score": 1.0, "decision": "x", "flag": True, "band": 1}}), 9, ("key",), table
        )
        pairs = [
            [write_run(warehouse, table_of(side), day, ("key",), table) for side in sides]
            for day, sides in enumerate(days)
        ]
        rows = join_runs(warehouse, *((a, b) for a, b in pairs))
        check_columns(rows.columns, days)
        frame = join_in_pandas(days)
        names = ("decision", "flag", "band")
        compared = [name for name in names if name in rows.columns.decisions]
        flipped = frame[[is_flip(row, compared) for _, row in frame.iterrows()]] if len(frame) else frame
        assert sum(pair.both for pair in rows.pairs) == len(frame)
        assert [pair.only_a for pair in rows.pairs] == [len(a.keys() - b.keys()) for a, b in days]
        assert [pair.only_b for pair in rows.pairs] == [len(b.keys() - a.keys()) for a, b in days]
        assert sum(pair.flips for pair in rows.pairs) == len(flipped)
        for name in rows.columns.scores:
            check_score(compare_score(rows, name), list(frame["score_a"]), list(frame["score_b"]))
        for name in compared:
            decision = compare_decision(rows, name)
            cells = Counter(zip(frame[f"{name}_a"], frame[f"{name}_b"], strict=True))
            assert {(cell.a, cell.b): cell.rows for cell in decision.cells} == cells
            assert decision.flips == sum(n for (a, b), n in cells.items() if a != b)
        written = [flip for batch in rows.read_flips() for flip in batch]
        assert [(flip["interval_start"].day - 1, flip["key_key"]) for flip in written] == sorted(
            (day, key) for day, key in zip(flipped["day"], flipped["key"], strict=True)
        )

    compare()


def check_columns(found: OutputColumns, days: Sequence[tuple[Any, Any]]) -> None:
    """A column is compared if it has a value on both sides. It is named if it has one on one side alone."""
    sides = [[row for day in days for row in day[i].values()] for i in (0, 1)]
    valued = [{name for row in side for name, value in row.items() if value is not None} for side in sides]
    if all(sides):
        assert {*found.scores, *found.decisions} == valued[0] & valued[1]
        assert set(found.only_a) == valued[0] - valued[1]
        assert set(found.only_b) == valued[1] - valued[0]
    else:
        assert {*found.scores, *found.decisions} == VALUED


def join_in_pandas(days: Sequence[tuple[Any, Any]]) -> pd.DataFrame:
    frames = []
    for day, sides in enumerate(days):
        a, b = (
            pd.DataFrame([{"key": key, **values} for key, values in side.items()], columns=list(ROWS), dtype=object)
            for side in sides
        )
        frames.append(a.merge(b, on="key", suffixes=("_a", "_b")).assign(day=day))
    return pd.concat(frames, ignore_index=True)


def is_flip(row: Any, names: Sequence[str]) -> bool:
    return any(row[f"{name}_a"] != row[f"{name}_b"] for name in names)


def check_score(found: ScoreAgreement, a: list[Any], b: list[Any]) -> None:
    missing = [(one is None, other is None) for one, other in zip(a, b, strict=True)]
    assert (found.null_a, found.null_b, found.null_both) == tuple(
        missing.count(which) for which in ((True, False), (False, True), (True, True))
    )
    kept = [(one, other) for one, other in zip(a, b, strict=True) if one is not None and other is not None]
    assert found.rows == len(kept)
    if not kept:
        assert (found.mean_a, found.psi, found.deciles, found.same_decile) == (None, None, (), None)
        return
    one, other = (np.array(side, float) for side in zip(*kept, strict=True))
    scale = max(1.0, float(np.abs([one, other]).max()))
    near = {"abs": 1e-9 * scale, "rel": 1e-9}
    assert found.mean_a == pytest.approx(one.mean(), **near)
    assert found.mean_b == pytest.approx(other.mean(), **near)
    assert found.mean_difference == pytest.approx(np.abs(other - one).mean(), **near)
    assert abs(found.largest_difference or 0.0) == pytest.approx(np.abs(other - one).max(), **near)
    assert found.quantiles_a == pytest.approx(np.quantile(one, np.linspace(0, 1, 101)), **near)
    assert found.quantiles_b == pytest.approx(np.quantile(other, np.linspace(0, 1, 101)), **near)
    if one.std() > 1e-6 * scale and other.std() > 1e-6 * scale:
        assert found.correlation == pytest.approx(pd.Series(one).corr(pd.Series(other)), abs=1e-6)
    check_bins(found, one, other)


def check_bins(found: ScoreAgreement, one: Any, other: Any) -> None:
    """Compare the counts by decile and the PSI with pandas', from the quantiles that were found."""
    deciles = [
        np.searchsorted(np.array(quantiles)[10:-1:10], values, side="left")
        for quantiles, values in ((found.quantiles_a, one), (found.quantiles_b, other))
    ]
    table = pd.crosstab(deciles[0], deciles[1]).reindex(index=range(10), columns=range(10), fill_value=0)
    assert found.deciles == tuple(map(tuple, table.to_numpy().tolist()))
    assert found.same_decile == pytest.approx((deciles[0] == deciles[1]).mean())
    cuts = decile_cuts(found.quantiles_a)

    def shares(values: Any) -> list[float]:
        numbers = [sum(value > cut or (value == cut and not included) for cut, included in cuts) for value in values]
        return [numbers.count(i) / len(numbers) for i in range(len(cuts) + 1)]

    assert found.psi == pytest.approx(stability_of_shares(shares(other), shares(one)))
    assert math.isfinite(found.psi or 0.0)


KEYS: dict[str, tuple[pa.DataType, list[Any]]] = {
    "text": (pa.string(), ["a", "B", "ä", " x", ""]),
    "uuid": (pa.string(), [f"0b8f7c3e-6c0e-4b5a-9f0a-00000000000{i}" for i in range(5)]),
    "whole": (pa.int64(), [2**62 + i for i in range(5)]),
    "decimal": (pa.decimal128(30, 6), [Decimal("12345678901234567890.000001") + i for i in range(5)]),
    "float": (pa.float64(), [0.1, 0.2, 1e300, -0.5, 3.0]),
    "time": (pa.timestamp("us", "UTC"), [datetime(2026, 1, 1, 0, 0, 0, i, UTC) for i in range(5)]),
    "date": (pa.date32(), [date(2026, 1, i + 1) for i in range(5)]),
}


@pytest.mark.parametrize("named", [(name,) for name in KEYS] + [("text", "time", "decimal"), ("whole", "date")])
def test_keys_of_every_type_are_joined(warehouse: Database, named: tuple[str, ...]) -> None:
    table = f"scores_{next(_tables)}"
    key = {f"of {name}": KEYS[name] for name in named}

    def rows(values: slice, decisions: Sequence[str]) -> pa.Table:
        columns = {name: pa.array(known[values], kind) for name, (kind, known) in key.items()}
        number = len(next(iter(columns.values())))
        return pa.table(columns | {"score": [0.5] * number, "decision": list(decisions)[:number]})

    one = write_run(warehouse, rows(slice(0, 4), "aaaa"), 0, tuple(key), table)
    other = write_run(warehouse, rows(slice(1, 5), "aaba"), 0, tuple(key), table)

    found = join_runs(warehouse, (one, other))

    assert [(pair.both, pair.only_a, pair.only_b, pair.flips) for pair in found.pairs] == [(3, 1, 1, 1)]
    [[flip]] = list(found.read_flips())
    for name, (kind, known) in key.items():
        value = flip[f"key_{name}"]
        assert (Decimal(value) if pa.types.is_decimal(kind) else value) == known[3]


def test_without_a_row_in_both_there_are_no_figures(warehouse: Database) -> None:
    table = f"scores_{next(_tables)}"
    one = write_run(
        warehouse, table_of({1: {"score": 0.5, "decision": "a", "flag": True, "band": 1}}), 0, ("key",), table
    )
    other = write_run(warehouse, table_of({}), 0, ("key",), table)

    found = join_runs(warehouse, (one, other))

    assert [(pair.both, pair.only_a, pair.only_b) for pair in found.pairs] == [(0, 1, 0)]
    assert compare_score(found, "score") == ScoreAgreement("score", 0, 0, 0, 0)
    assert compare_decision(found, "decision").share == 0.0
    assert list(found.read_flips()) == []


def test_a_ranking_models_score_is_compared_within_its_groups(warehouse: Database) -> None:
    def rows(scores: Sequence[float | None]) -> pa.Table:
        basket = ["x", "x", "x", "y", "y", None, None, "z"]
        columns = {"key": pa.array(range(len(basket)), pa.int64()), "basket": pa.array(basket, pa.string())}
        return pa.table(columns | {"score": pa.array(scores, pa.float64())})

    one = write_run(warehouse, rows([3, 2, 1, 5, 4, 1, 2, 9]), 0, ("key",), "ranked")
    other = write_run(warehouse, rows([1, 2, 3, 50, 40, 7, 8, 0]), 0, ("key",), "ranked")

    found = join_runs(warehouse, (one, other), left_out=("basket",), groups={"score": ("basket",)})
    unknown = join_runs(warehouse, (one, other), left_out=("basket",), groups={"score": ("shop",)})

    assert compare_ranks(found, "score") == RankAgreement("score", ("basket",), (), 3, 2, 4 / 7)
    assert (compare_score(found, "score").psi, compare_score(found, "score").deciles) == (None, ())
    assert compare_ranks(unknown, "score").missing == ("shop",)


def test_tables_with_other_keys_are_refused(warehouse: Database) -> None:
    rows = pa.table({"key": [1, 2], "part": ["a", "b"], "score": [0.1, 0.2]})
    one = write_run(warehouse, rows, 0, ("key",), "by_key")
    other = write_run(warehouse, rows, 0, ("key", "part"), "by_key_and_part")

    with pytest.raises(CompareRefused, match="other keys: `key` BigInteger, and in `by_key_and_part__history`"):
        join_runs(warehouse, (one, other))


MOST_MEGABYTES = {"sqlite": 150, "postgresql": 150, "duckdb": 500}
"""DuckDB joins in this process: 40 bytes for each row's key and score."""


@pytest.mark.slow
def test_a_million_rows_are_compared_in_bounded_memory(warehouse: Database, tmp_path: Path) -> None:
    million, key = 1_000_000, ("key",)

    def rows(seed: int) -> pa.Table:
        same, own = np.random.default_rng(0), np.random.default_rng(seed)
        score = np.clip(same.random(million) + own.normal(0, 0.05, million), 0, 1)
        decision = pa.array(np.where(score > 0.8, "block", "pass"))
        return pa.table({"key": pa.array(range(million), pa.int64()), "score": score, "decision": decision})

    one, other = rows(1), rows(2)
    runs = [write_run(warehouse, each, 0, key, "scores").run_id for each in (one, other)]
    flips = int(np.sum(one["decision"].to_numpy() != other["decision"].to_numpy()))
    url = warehouse.url.render_as_string(hide_password=False)
    close_engines()

    command = [sys.executable, "-m", "tests.compared", url, *runs, str(tmp_path / "flips.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)

    *counted, grown = map(int, done.stdout.split())
    assert counted == [million, million, flips, flips]
    assert grown < MOST_MEGABYTES[warehouse.dialect]


def test_a_side_with_runs_in_two_tables_of_other_types_is_compared(warehouse: Database) -> None:
    """People have changed `destination.table` and a decision in between: text and a flag, whole numbers and others."""
    before, after = (f"scores_{next(_tables)}" for _ in range(2))
    old = [{"key": k, "score": k / 8, "decision": "true" if k < 4 else "stop", "band": k} for k in range(1, 7)]
    new = [{"key": k, "score": k / 4, "decision": k < 4, "band": k / 2} for k in range(1, 7)]
    pairs = [
        (write_run(warehouse, table, day, ("key",), name), write_run(warehouse, table, day, ("key",), name))
        for day, (name, table) in enumerate([(before, pa.Table.from_pylist(old)), (after, pa.Table.from_pylist(new))])
    ]
    crossed = write_run(warehouse, pa.Table.from_pylist(old), 2, ("key",), before)
    pairs.append((crossed, write_run(warehouse, pa.Table.from_pylist(new), 2, ("key",), after)))

    rows = join_runs(warehouse, *pairs)

    assert [(each.both, each.flips) for each in rows.pairs] == [(6, 0), (6, 0), (6, 6)]
    assert set(rows.columns.scores) == {"score"}
    assert set(rows.columns.decisions) == {"decision", "band"}
    assert compare_score(rows, "score").rows == 18
    assert compare_decision(rows, "band").flips == 6
    flips = [flip for batch in rows.read_flips() for flip in batch]
    assert {flip["a_decision"] for flip in flips} == {"true", "stop"}
