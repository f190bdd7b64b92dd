"""The picture of a metric by interval."""

from penstock.labels.trend import TrendPoint
from penstock.monitor.estimates import Estimate
from penstock.report.trend_picture import draw_trend


def test_the_band_leaves_out_intervals_of_too_few_rows() -> None:
    known, few = Estimate(0.7, 0.6, 0.8), Estimate(0.95, None, None)
    points = [TrendPoint(f"day {n}", each, False) for n, each in enumerate([known, known, few, known])]

    picture = draw_trend(points)

    assert picture.count("<polygon") == 2
    assert picture.count("<circle") == 4
    assert ">0.95</text>" in picture  # the scale has room for it
    assert "<polygon" not in draw_trend([TrendPoint("day", few, False)])
