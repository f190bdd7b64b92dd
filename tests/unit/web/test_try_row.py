"""What is typed for a row becomes the value that a request would have."""

from typing import Any

import pytest

from penstock.web.pages.try_row import Field, Kind, _read


@pytest.mark.parametrize(
    ("kind", "typed", "value"),
    [
        ("whole number", " 7 ", 7),
        ("whole number", "1_000", "1_000"),
        ("number", "1.5", 1.5),
        ("number", "1_0.5", "1_0.5"),
        ("number", "nan", "nan"),
        ("decimal", "12345678901234567.10", "12345678901234567.10"),
        ("text", " 7 ", " 7 "),
        ("text", "", None),
        ("true or false", "true", True),
    ],
)
def test_a_typed_value_is_read(kind: Kind, typed: str, value: Any) -> None:
    assert _read(Field("amount", kind, typed, ())) == value
