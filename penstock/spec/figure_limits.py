"""Read a limit of one figure of a column, as in `mean(score) < 0.2`, as the expectation that a spec would have."""

import re

from penstock.errors import SettingsError
from penstock.spec.expectation import Expectation

FIGURES = ("max", "mean", "median", "min", "stdev", "sum")
_FORM = re.compile(
    rf"\s*(?P<figure>{'|'.join(FIGURES)})\(\s*(?P<column>[^()]+?)\s*\)"
    r"\s*(?P<sign><=|>=|<|>)\s*(?P<limit>[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?)\s*",
    re.IGNORECASE,
)


def read_limit(text: str) -> Expectation:
    """Return the expectation that holds as long as the limit is kept.

    Raises:
        SettingsError: the text has another form.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise SettingsError(
            f"`{text}` is no limit of a figure",
            f"Write figure(column), <, <=, > or >=, and a number, as in `mean(score) < 0.2`. "
            f"The figures are {', '.join(FIGURES)}.",
        )
    end = "max" if found["sign"].startswith("<") else "min"
    arguments = {"column": found["column"], f"{end}_value": float(found["limit"])}
    if not found["sign"].endswith("="):
        arguments[f"strict_{end}"] = True
    return Expectation.model_validate({"type": f"expect_column_{found['figure'].lower()}_to_be_between", **arguments})
