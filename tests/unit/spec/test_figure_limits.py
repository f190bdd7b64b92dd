"""Limits of figures, as the command line takes them."""

import pytest

from penstock.errors import SettingsError
from penstock.spec.figure_limits import read_limit


@pytest.mark.parametrize(
    ("text", "kind", "arguments"),
    [
        ("max(score) < 0.9", "max", {"column": "score", "max_value": 0.9, "strict_max": True}),
        ("MEAN( score )<=.5", "mean", {"column": "score", "max_value": 0.5}),
        ("min(amount in euros) > -1e3", "min", {"column": "amount in euros", "min_value": -1000.0, "strict_min": True}),
        ("stdev(x) >= 2", "stdev", {"column": "x", "min_value": 2.0}),
    ],
)
def test_a_limit_is_an_expectation(text: str, kind: str, arguments: dict[str, object]) -> None:
    found = read_limit(text)
    assert (found.type, found.severity) == (f"expect_column_{kind}_to_be_between", "critical")
    assert found.arguments == arguments


@pytest.mark.parametrize("text", ["", "score < 1", "max(score)", "max(score) = 1", "max(score) < x", "avg(score) < 1"])
def test_another_form_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="is no limit of a figure"):
        read_limit(text)
