"""Random histories of labels: late, changed, taken back and missing, against a plain model in pandas."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.labels.judged_rows import ALL_ROWS
from penstock.labels.performance import list_judged_runs, measure_as_of, read_performance, refresh_performance
from tests.integration.test_labels import NOW, Shop, make_shop
from tests.shop import START

__all__ = ["make_shop"]

DAYS = 8
KEYS = 12
MATURE = timedelta(days=4)
NEGATIVE = """
labels:
  source: {kind: sql, connection: shop, table: chargebacks, key: [payment_id]}
  value: is_fraud
  seen_at: reported_at
  mature: 4d
  missing: negative
  lookback: 400d
"""
UNKNOWN = NEGATIVE.replace("missing: negative", "missing: unknown")
report = st.tuples(
    st.integers(1, KEYS),
    st.sampled_from([0, 1, None]),
    st.integers(0, DAYS),  # the day on which the label is seen
    st.integers(0, DAYS),  # how many days later the source delivers it
)


def expected_sums(
    reports: list[tuple[int, int | None, int, int]], scores: dict[int, float], collected: int, as_of: int, missing: str
) -> tuple[int, int, float]:
    """Return labelled rows, judged rows and the sum of the labels, as pandas finds them.

    The three days end one, two and three days after the start. Days of labels begin with the end of the third.
    """
    frame = pd.DataFrame(reports, columns=["key", "label", "seen", "delay"])
    known = frame[(frame.seen + frame.delay <= collected) & (frame.seen <= as_of)]
    newest = known.sort_values("seen", kind="stable").groupby("key").nth(-1).set_index("key").label.dropna()
    labelled, judged, positives = 0, 0, 0.0
    for key in scores:
        has_label = key in newest.index
        labelled += has_label
        day_ends = (key - 1) // 250 + 1
        is_mature = START + timedelta(days=day_ends) + MATURE <= moment(as_of)
        counts = is_mature if missing == "negative" else has_label
        judged += counts
        positives += float(newest[key]) if counts and has_label else 0.0
    return labelled, judged, positives


def moment(day: int) -> datetime:
    return NOW + timedelta(days=day)


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["negative", "unknown"])
def test_late_changed_and_missing_labels_are_those_of_a_plain_model(
    make_shop: Callable[..., Shop], missing: str
) -> None:
    shop = make_shop(labels=NEGATIVE if missing == "negative" else UNKNOWN)
    scores = shop.scores()

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        # At one moment a key has one label, because the source says nothing of the order of two.
        reports=st.lists(report, max_size=25, unique_by=lambda r: (r[0], r[2])),
        as_of=st.integers(0, DAYS),
    )
    def check(reports: list[tuple[int, int | None, int, int]], as_of: int) -> None:
        with shop.place.shop.writing() as connection:
            connection.execute(shop.table.delete())
        with shop.warehouse.writing() as connection:
            for table in ("penstock_labels", "penstock_label_sources", "penstock_performance"):
                connection.exec_driver_sql(f"delete from {table}")
        runs = list_judged_runs(shop.warehouse, "card-risk")
        for day in range(2 * DAYS + 1):
            delivered = [(key, label, moment(seen)) for key, label, seen, delay in reports if seen + delay == day]
            if not delivered and day % 8:
                continue
            if delivered:
                shop.report(delivered)
            now = moment(day) + timedelta(seconds=1)
            shop.collect(now)
            refresh_performance(shop.warehouse, shop.question(now))
            kept = [each.all_rows for each in read_performance(shop.warehouse, runs)]
            found = (
                sum(part.labelled for part in kept),
                sum(part.judged for part in kept),
                sum(part.sums.bins.positive_count for part in kept),  # type: ignore[union-attr]
            )
            assert found == expected_sums(reports, scores, day, day, missing)
        question = shop.question(as_of=moment(as_of))
        then = [each.slices[ALL_ROWS] for each in measure_as_of(shop.warehouse, runs, question)]
        believed = (sum(part.labelled for part in then), sum(part.judged for part in then))
        assert believed == expected_sums(reports, scores, 2 * DAYS, as_of, missing)[:2]

    check()
