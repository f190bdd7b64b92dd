"""Requests that cannot be scored, and servers that cannot start."""

from dataclasses import dataclass
from typing import ClassVar

from penstock.errors.base import TerminalError, TransientError, UsageError
from penstock.wording import plural


@dataclass(eq=False)
class RequestError(TerminalError):
    """A request over HTTP is wrong.

    Cause: the body, a value in it, or the address is not what the server takes. Nothing was scored.
    Remedy: correct the request as the answer says. `status` is the status of the answer.
    """

    what: str
    where: str
    remedy: str
    status: int = 400

    def message(self) -> str:
        return f"{self.where}: {self.what}. {self.remedy}" if self.where else f"{self.what}. {self.remedy}"


@dataclass(eq=False)
class WrongValue(RequestError):
    """A value of a request is not of its column's type.

    Cause: the column has the type of the source's contract, and the value is of another kind.
    Remedy: send a value of the type. `null` is taken in every column.
    """

    status: int = 400


@dataclass(eq=False)
class RowsRefused(RequestError):
    """No answer is given, because rows were refused.

    Cause: a format that answers by position has no place for a refused row, so that one of them refuses the request.
        In Penstock's own format all rows were refused.
    Remedy: correct or leave out the rows that `rows` names. `POST /pipelines/<pipeline>/score` answers row by row.
    """

    status: int = 422
    rows: tuple[tuple[int, tuple[str, ...]], ...] = ()
    """Position and reasons of each refused row."""


@dataclass(eq=False)
class TooManyRequests(TransientError):
    """The server has as many requests in flight as it takes.

    Cause: more requests at once than `serve.limit.in_flight`, or than the rate of a token.
    Remedy: wait for `Retry-After` seconds and send the request again.
    """

    limit: str
    seconds: int = 1
    status: ClassVar[int] = 429

    def message(self) -> str:
        return f"{self.limit}. Send it again in {self.seconds} s."


@dataclass(eq=False)
class NotReady(TransientError):
    """A pipeline cannot be scored yet.

    Cause: its model or its columns could not be read so far. The server tries again.
    Remedy: `GET /ready` says why. Correct that, or wait.
    """

    pipeline: str
    reason: str
    status: ClassVar[int] = 503

    def message(self) -> str:
        return f"`{self.pipeline}` cannot be scored yet: {self.reason}"


@dataclass(eq=False)
class ServedDiffers(TerminalError):
    """Recorded rows get other scores or features than those that were served.

    Cause: they were scored again by the same version, from the recorded features or with the rows of the other sources
        of then, and something is not equal to the bit. Usually another version of a library or another processor scores
        now than served; else it is a defect.
    Remedy: compare what `penstock doctor` says on the server's machine and on this one. Look at a row that the message
        names in `<table>__served`.
    """

    pipeline: str
    scores: int
    """Rows with another score from the recorded features."""
    features: int
    """Rows with other features or another score from the recorded row."""
    examples: tuple[str, ...]
    """Run, request and position of some of the rows."""

    def message(self) -> str:
        return (
            f"`{self.pipeline}`: recorded rows that are scored again do not equal what was served: the score of "
            f"{plural(self.scores, 'row')} from recorded features, {plural(self.features, 'row')} from the recorded "
            f"row ({'; '.join(self.examples)}). Compare the versions that `penstock doctor` names on both machines."
        )


@dataclass(eq=False)
class SnapshotTooLarge(TerminalError):
    """The rows of a secondary source do not fit the limit of a snapshot.

    Cause: `serve.features: snapshot` holds them in memory, and they have more bytes than `serve.limit.snapshot`.
    Remedy: write a `query` that selects fewer rows or columns, or raise the limit. Each process of `--workers` holds a
        snapshot, and two while it takes the next one.
    """

    pipeline: str
    source: str
    rows: int
    held: int
    others: int
    """Bytes of the sources that were read before."""
    limit: int

    def message(self) -> str:
        others = f" beside {plural(self.others, 'byte')} of other sources" if self.others else ""
        return (
            f"`{self.pipeline}`: {plural(self.rows, 'row')} of `{self.source}` have {self.held:,} bytes{others}, and "
            f"`serve.limit.snapshot` is {self.limit:,}. Select fewer rows or columns in a `query`, or raise the limit."
        )


@dataclass(eq=False)
class NotRecorded(TransientError):
    """A request was scored and cannot be recorded, so it gets no score.

    Cause: with `record: before_answer` neither the warehouse nor the spool on this machine can be written, for example
        because the disk is full.
    Remedy: free some space, or correct what the message says, and send the request again.
    """

    pipeline: str
    reason: str
    status: ClassVar[int] = 503

    def message(self) -> str:
        return f"the request to `{self.pipeline}` cannot be recorded: {self.reason}"


@dataclass(eq=False)
class ServeRefused(UsageError):
    """The server does not start.

    Cause: nothing to serve, a pipeline that requests cannot be scored with, or an address that needs tokens.
    Remedy: do what the message says.
    """

    reason: str
    remedy: str

    def message(self) -> str:
        return f"{self.reason}. {self.remedy}"
