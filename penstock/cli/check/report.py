"""The report of a check. An error becomes a result, and the check continues."""

from dataclasses import dataclass, field
from typing import Literal

from penstock.errors import Halted, PenstockError, SpecError

State = Literal["ok", "note", "warning", "problem"]
MARKS: dict[State, str] = {"ok": "✓", "note": "•", "warning": "!", "problem": "✗"}
STYLES: dict[State, str] = {"ok": "green", "note": "yellow", "warning": "yellow", "problem": "red"}


@dataclass(frozen=True)
class CheckResult:
    """The result for one subject."""

    subject: str
    state: State
    what: str


@dataclass(frozen=True)
class SampleSize:
    """How many rows were sampled, and how many of them may be refused."""

    rows: int
    is_whole: bool
    """Whether the sample has all rows of the interval."""
    limit: float
    """The pipeline's `quarantine_limit`."""


@dataclass
class CheckReport:
    """The results of one pipeline."""

    pipeline: str
    results: list[CheckResult] = field(default_factory=list)
    exit_code: int = 0
    """2 if the spec or the settings are wrong, 1 for other problems."""

    def ok(self, subject: str, what: str) -> None:
        self.results.append(CheckResult(subject, "ok", what))

    def note(self, subject: str, what: str) -> None:
        self.results.append(CheckResult(subject, "note", what))

    def warning(self, subject: str, what: str) -> None:
        self.results.append(CheckResult(subject, "warning", what))

    def refused(self, subject: str, rows: int, reason: str, sample: SampleSize) -> None:
        """Report sample rows that a run would quarantine: a problem if the run would certainly halt for them."""
        what = f"{rows} of {sample.rows} sample rows would be quarantined, as {reason}"
        if rows <= sample.limit * sample.rows:
            self.note(subject, what)
        elif sample.is_whole or rows == sample.rows:
            self.problem(subject, f"{what}. The run would halt, for `quarantine_limit` is {sample.limit:g}")
        else:
            self.warning(subject, f"{what}. `quarantine_limit` is {sample.limit:g}")

    def problem(self, subject: str, what: str, exit_code: int = 1) -> None:
        if not any(result.what == what for result in self.results if result.state == "problem"):
            self.results.append(CheckResult(subject, "problem", what))
        self.exit_code = max(self.exit_code, exit_code)

    def about(self, subject: str) -> "Attempt":
        """Turn an error raised in the block into problems of this subject."""
        return Attempt(self, subject)

    @property
    def problems(self) -> int:
        return self._count("problem")

    @property
    def warnings(self) -> int:
        return self._count("warning")

    def _count(self, state: State) -> int:
        return sum(1 for result in self.results if result.state == state)


@dataclass(frozen=True)
class Attempt:
    """A block of a check. Its error does not end the check."""

    report: CheckReport
    subject: str

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, PenstockError):
            return False
        reasons: tuple[str, ...] = (str(error),)
        if isinstance(error, SpecError):
            reasons = tuple(str(problem) for problem in error.problems)
        elif isinstance(error, Halted):
            reasons = error.reasons
        for reason in reasons:
            self.report.problem(self.subject, reason, 2 if error.exit_code == 2 else 1)
        return True
