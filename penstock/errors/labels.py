"""Labels that cannot be collected, and scores that cannot be measured with them."""

from dataclasses import dataclass

from penstock.errors.base import TerminalError, UsageError


@dataclass(eq=False)
class NoLabels(UsageError):
    """The pipeline declares no labels.

    Cause: its spec has no `labels:`.
    Remedy: declare where the labels are, what their value is and when they were seen. See docs/labels.md.
    """

    pipeline: str

    def message(self) -> str:
        return (
            f"pipeline `{self.pipeline}` declares no labels. Add `labels:` with source, value and seen_at to its spec."
        )


@dataclass(eq=False)
class NothingScored(UsageError):
    """Labels are to be collected of a pipeline that has scored nothing.

    Cause: the warehouse has no ledger yet.
    Remedy: run the pipeline first.
    """

    pipeline: str

    def message(self) -> str:
        return (
            f"the warehouse has no ledger, so `{self.pipeline}` has scored nothing. Run `penstock run {self.pipeline}`."
        )


@dataclass(eq=False)
class LabelValue(TerminalError):
    """A label has a value that the model cannot be measured with.

    Cause: `value` of `labels` gives text or an infinite number, something else than 0 and 1 for a binary model, or
        only what is no class of a model with several classes.
    Remedy: write an expression that gives a number, such as `case when status = 'fraud' then 1 else 0 end`.
    """

    pipeline: str
    reason: str

    def message(self) -> str:
        return (
            f"`value` of `labels` of `{self.pipeline}` {self.reason}. Write an expression that gives a number, for a "
            "binary model 0 or 1, and for a model with several classes the class. NULL is no label."
        )


@dataclass(eq=False)
class NotMeasured(TerminalError):
    """The performance of the scores cannot be measured.

    Cause: the scores are raw margins; or the groups of a ranking are not known; or `missing: negative` goes with a
        survival model or one with several classes; or `decide` makes a `score` of one with several classes.
    Remedy: as the message says.
    """

    what: str
    reason: str
    remedy: str

    def message(self) -> str:
        return f"the performance of {self.what} cannot be measured: {self.reason}. {self.remedy}"


@dataclass(eq=False)
class TooManySlices(TerminalError):
    """A column of `slices` has more values than a table of slices can show.

    Cause: the column is a number or an identifier.
    Remedy: make a column with a few values in `features` or `decide`, and name that one.
    """

    pipeline: str
    column: str
    most: int

    def message(self) -> str:
        return (
            f"`{self.column}` in `labels.slices` of `{self.pipeline}` has more than {self.most} values in one run. "
            "Make a column with a few values in `features` or `decide`, and name that one."
        )
