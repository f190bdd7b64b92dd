"""New labels make only the runs of their rows be measured again."""

from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa

from penstock.labels import performance, touched_runs
from penstock.labels.performance import add_up, list_judged_runs, read_performance, refresh_performance
from penstock.upkeep.verify import verify_ledger
from tests.conftest import DIALECTS
from tests.integration.test_labels import LABELS, LATER, NOW, Shop, make_shop
from tests.shop import SPEC

__all__ = ["make_shop"]

MakeShop = Callable[..., Shop]
A_DAY = 250
PRIVATE = SPEC.replace("key: [payment_id]", "key: [payment_id]\n    private: {payment_id: hash}")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs whose rows were read to measure them."""
    found: list[str] = []
    sum_run = performance.sum_run

    def count(*given: object) -> object:
        found.append(given[1].run_id)  # type: ignore[attr-defined]
        return sum_run(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(performance, "sum_run", count)
    return found


def report_day(shop: Shop, day: int, value: int = 1, hours: int = 0) -> None:
    """Let labels of twenty payments of one day come."""
    first = day * A_DAY + 1
    shop.report([(key, value, NOW + timedelta(hours=key + hours)) for key in range(first, first + 20)])


def refresh(shop: Shop) -> int:
    shop.collect()
    return refresh_performance(shop.warehouse, shop.question()).runs


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_days_labels_touch_the_runs_of_their_rows_alone(
    make_shop: MakeShop, dialect: str, measured: list[str]
) -> None:
    shop = make_shop(dialect)
    runs = [run.run_id for run in list_judged_runs(shop.warehouse, "card-risk")]
    report_day(shop, 0)
    assert refresh(shop) == 3  # none was measured before
    measured.clear()
    assert refresh(shop) == 0
    report_day(shop, 1)
    assert refresh(shop) == 1
    assert measured == [runs[1]]
    report_day(shop, 1, 0, hours=1)  # the values change
    shop.report([(99_999, 1, NOW)])
    assert refresh(shop) == 1
    assert measured == [runs[1]] * 2
    kept = read_performance(shop.warehouse, list_judged_runs(shop.warehouse, "card-risk"))
    assert [each.all_rows.labelled for each in kept] == [20, 20, 0]
    [total] = add_up(kept)
    assert total.rows.sums.bins.positive_count == 20  # type: ignore[union-attr]
    assert verify_ledger(shop.warehouse) == ()


def test_labels_of_hashed_keys_measure_every_run(make_shop: MakeShop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_PRIVATE_KEY", "k" * 32)
    shop = make_shop(spec=PRIVATE)
    refresh(shop)
    report_day(shop, 2)
    assert refresh(shop) == 3


def test_many_keys_measure_every_run(make_shop: MakeShop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = make_shop()
    refresh(shop)
    monkeypatch.setattr(touched_runs, "MOST_KEYS", 10)
    report_day(shop, 0)
    assert refresh(shop) == 3


def test_a_key_that_the_database_may_write_otherwise_measures_every_run() -> None:
    decimal, text = sa.Column("key", sa.Numeric(20, 2)), sa.Column("key", sa.Text)
    assert touched_runs._reader_of(decimal) is None
    assert touched_runs._reader_of(text) is str


def test_keys_that_no_row_can_have_are_left_out() -> None:
    keys = [{"id": "7"}, {"id": "x"}, {"id": str(2**63)}, {"other": "7"}]
    assert list(touched_runs._read_keys(["id"], [touched_runs._read_integer], keys)) == [(7,)]


def test_a_maturing_interval_is_measured_without_new_labels(make_shop: MakeShop, measured: list[str]) -> None:
    shop = make_shop(labels=LABELS)
    shop.collect(NOW)
    refresh_performance(shop.warehouse, shop.question(NOW))
    measured.clear()
    first = list_judged_runs(shop.warehouse, "card-risk")[0]
    assert first.interval_end is not None
    later = first.interval_end + timedelta(days=20)
    assert refresh_performance(shop.warehouse, shop.question(later)).runs == 1
    assert measured == [first.run_id]
    assert refresh_performance(shop.warehouse, shop.question(LATER)).runs == 2
