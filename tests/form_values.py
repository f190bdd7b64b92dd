"""Values as people type them into the form of `score/<pipeline>`, and what becomes of each.

`docs/operations.md` shows the same table.
"""

from dataclasses import dataclass
from typing import Any

EXPECTED_TIME = "'2026-01-31 or 2026-01-31T06:00' was expected"
EXPECTED_MODEL = "'name@alias or name@version, as in card-risk@champion' was expected"
WRITE_TIME = "Write 2026-01-31 or 2026-01-31T06:00."


@dataclass(frozen=True)
class Typed:
    """One value in one field."""

    field: str
    """The parameter."""
    value: Any
    form: str = ""
    """What the form says. Empty: it takes the value."""
    run: str = ""
    """What the run says. Empty: it takes the value, too."""
    begin: str = ""
    """The begin of the range that is read, in the run's name."""

    @property
    def is_refused(self) -> bool:
        return bool(self.form)


def _wrong_begin(value: str, what: str = "a date") -> str:
    return f"Begin of the range: `{value.strip()}` is not {what}. {WRITE_TIME}"


TYPED = (
    Typed("start", "", begin=""),
    Typed("start", "  ", begin=""),
    Typed("start", "2026-01-02", begin="from 2026-01-02 00:00"),
    Typed("start", " 2026-01-02 ", begin="from 2026-01-02 00:00"),
    Typed("start", "2026-1-2", begin="from 2026-01-02 00:00"),
    Typed("start", "20260102", begin="from 2026-01-02 00:00"),
    Typed("start", "2026-01-02 06:00", begin="from 2026-01-02 06:00"),
    Typed("start", "2026-01-02T06:00Z", begin="from 2026-01-02 06:00"),
    Typed("start", "2026-01-02T06:00+02:00", begin="from 2026-01-02 04:00"),
    Typed("start", "2026-02-30", run=_wrong_begin("2026-02-30")),
    Typed("start", "9999-12-31", run=_wrong_begin("9999-12-31")),
    Typed("start", "2026-13-45", EXPECTED_TIME, _wrong_begin("2026-13-45")),
    Typed("start", "2026-01", EXPECTED_TIME, _wrong_begin("2026-01")),
    Typed("start", "31.01.2026", EXPECTED_TIME, _wrong_begin("31.01.2026")),
    Typed("start", "01/31/2026", EXPECTED_TIME, _wrong_begin("01/31/2026")),
    Typed("start", "2026–01–31", EXPECTED_TIME, _wrong_begin("2026–01–31")),
    Typed("start", "2026-01-31T25:00", EXPECTED_TIME, _wrong_begin("2026-01-31T25:00", "a date or time")),
    Typed("start", "yesterday", EXPECTED_TIME, _wrong_begin("yesterday")),
    Typed("model", " card-risk@champion "),
    Typed("model", "score = card-risk@champion"),
    Typed("model", "newest", EXPECTED_MODEL, f"Model: `newest` is no model. Write {EXPECTED_MODEL.split(chr(39))[1]}."),
    Typed(
        "model",
        "deep=card-risk@1",
        run="Model: `deep=card-risk@1` is chosen for a step that is not there. Known: `score`.",
    ),
    Typed(
        "model",
        "score=card-risk@1, score=card-risk@champion",
        run="Model: the models of step `score` are chosen twice. Choose one model for a step.",
    ),
    Typed(
        "partition_rows",
        -5,
        "-5 is less than the minimum of 0",
        "Rows of a partition: `-5` is not a whole number from 0 to 100,000,000.",
    ),
    Typed(
        "partition_rows",
        1_000_000_000,
        "1000000000 is greater than the maximum of 100000000",
        "Rows of a partition: `1000000000` is not a whole number from 0 to 100,000,000.",
    ),
    Typed(
        "scored_by",
        "card-risk@3",
        "'name/version, as in card-risk/3' was expected",
        "Scored by: `card-risk@3` is no version of a model. Write name/version, as in card-risk/3.",
    ),
    Typed("scored_by", "card-risk/3", run="Scored by: only a restate takes it."),
    Typed(
        "sandbox",
        "New-Limit",
        "'up to 20 lower-case letters and digits, as in lowerlimit' was expected",
        "Sandbox: sandbox `New-Limit` is no name of a sandbox. Take up to 20 lower-case letters and digits, as in "
        "lowerlimit. For example `newlimit`.",
    ),
    Typed(
        "sandbox",
        "newlimit",
        run="Sandbox: start a sandbox from `score/any_pipeline`, so that no scheduled run waits for it.",
    ),
    Typed(
        "challengers",
        "newest",
        "'name@alias=name@version, as in card-risk@challenger=card-risk@4' was expected",
        "Challengers: `newest` chooses no challengers. Write name@alias=name@version, as in "
        "card-risk@challenger=card-risk@4.",
    ),
    Typed("challengers", "card-risk@challenger=card-risk@4"),
    Typed(
        "pipeline",
        "demand",
        "'demand' is not one of ['card-risk']",
        "Pipeline: the deployment `score/card-risk` scores only `card-risk`, not `demand`. "
        "Start the run from that pipeline's own deployment, or from `score/any_pipeline`.",
    ),
)
