"""`penstock check` opens the source of the labels."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.integration.test_drift import call
from tests.integration.test_labels import NOW, Shop, make_shop

__all__ = ["make_shop"]

MakeShop = Callable[..., Shop]
DAY = ("card-risk.yaml", "--start", "2026-01-01", "--end", "2026-01-02")


@pytest.fixture
def shop(make_shop: MakeShop) -> Shop:
    shop = make_shop()
    shop.report([(1, 1, NOW), (2, None, NOW - timedelta(hours=1))])
    return shop


def test_labels_that_can_be_read_are_named(shop: Shop) -> None:
    told = "✓ labels: 2 labels read as a sample, 1 of them NULL, the newest seen at 2026-01-04 01:00 UTC"
    assert told in call("check", *DAY)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("seen_at: reported_at", "seen_at: reported", "`reported`"),
        ("value: is_fraud", "value: is_frod", "`value` of `labels`"),
        ("value: is_fraud", "value: \"case when is_fraud = 1 then 'yes' end\"", "gives string"),
        ("value: is_fraud", "value: is_fraud * 7", "gives 7"),
        ("table: chargebacks", "table: charges", "`charges`"),
        ("connection: shop, table: chargebacks", "connection: shop, query: select 1 as x", "payment_id"),
    ],
)
def test_labels_that_no_collection_could_read_are_a_problem(shop: Shop, before: str, after: str, told: str) -> None:
    spec = shop.place.spec.read_text()
    assert before in spec
    shop.place.spec.write_text(spec.replace(before, after))
    shown = call("check", *DAY, exit_code=1)
    lines = [line for line in shown.splitlines() if line.startswith("  ✗ labels")]
    assert len(lines) == 1
    assert told in lines[0]
