"""Checks and their findings."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "broken", "not checked"]


@dataclass(frozen=True)
class Finding:
    """One finding: a subject, its state, and a remedy if something is wrong."""

    subject: str
    state: State
    what: str
    remedy: str = ""


@dataclass(frozen=True)
class Check:
    """A function that checks one subject."""

    subject: str
    examine: Callable[[], Iterable[Finding]]
    needs_server: bool = False


@dataclass(frozen=True)
class Section:
    """The findings of one group."""

    title: str
    findings: tuple[Finding, ...]


def ok(subject: str, what: str) -> Finding:
    return Finding(subject, "ok", what)


def warning(subject: str, what: str, remedy: str) -> Finding:
    return Finding(subject, "warning", what, remedy)


def broken(subject: str, what: str, remedy: str = "") -> Finding:
    return Finding(subject, "broken", what, remedy)


def not_checked(subject: str, reason: str) -> Finding:
    return Finding(subject, "not checked", reason)
