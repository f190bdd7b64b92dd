"""Make every check, side by side, so that one that hangs or fails takes no other with it."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TookTooLong
from dataclasses import dataclass, replace
from importlib import import_module
from time import monotonic

import httpx

from penstock.deployments.doctor.context import CheckContext
from penstock.deployments.doctor.finding import Check, Finding, Section, broken, not_checked
from penstock.deployments.doctor.reaching import reach_server
from penstock.errors import PenstockError, SettingsError, SpecError

CHECK_SECONDS = 45.0
"""How long all checks may take together; each probe has a shorter limit of its own."""
GROUPS = {
    "This machine": ("machine", "packages"),
    "Databases": ("databases",),
    "Models": ("stores",),
    "Prefect server": ("server",),
    "Deployments": ("specs", "deployed"),
}
"""The modules of each group; what they import may be what is broken, so they are imported one by one."""


def examine(case: CheckContext, tell: Callable[[str], None] = lambda what: None) -> tuple[Section, ...]:
    """Make every check and return what was found, group by group.

    Args:
        tell: Told what goes on.
    """
    tell("asking the Prefect server, loading libraries")
    first = {"Prefect server": [reach_server(case)]}
    if case.api_url is not None and first["Prefect server"][0].state == "broken":
        case = replace(case, api_url=None, why_no_server="the Prefect server does not answer")
    pool = ThreadPoolExecutor(8, thread_name_prefix="doctor")
    # One import after the other: two threads that import at once can meet in half-loaded modules.
    listed = {title: [check for name in GROUPS[title] for check in _load(pool, title, name, case)] for title in GROUPS}
    pending = {title: [_start(pool, check, case) for check in checks] for title, checks in listed.items()}
    deadline = monotonic() + CHECK_SECONDS
    sections = []
    for title, started in pending.items():
        tell(f"waiting for answers: {title.lower()}")
        found = [finding for each in started for finding in each.wait(deadline)]
        sections.append(Section(title, (*first.get(title, ()), *found)))
    pool.shutdown(wait=False, cancel_futures=True)
    return tuple(sections)


@dataclass(frozen=True)
class _Started:
    """A check under way: what it has found stays, whatever ends it."""

    check: Check
    future: Future[None]
    found: list[Finding]

    def wait(self, deadline: float) -> list[Finding]:
        subject = self.check.subject
        try:
            error = self.future.exception(timeout=max(0.1, deadline - monotonic()))
        except TookTooLong:
            return [*self.found, broken(subject, f"no answer within {CHECK_SECONDS:.0f} s", "Look what it waits for.")]
        return self.found if error is None else [*self.found, *_explain(subject, error)]


def _start(pool: ThreadPoolExecutor, check: Check, case: CheckContext) -> _Started:
    if check.needs_server and case.api_url is None:
        check = _known(not_checked(check.subject, case.why_no_server))
    found: list[Finding] = []
    return _Started(check, pool.submit(_collect, check, found), found)


def _collect(check: Check, found: list[Finding]) -> None:
    for finding in check.examine():
        found.append(finding)  # one by one: those before an error stay


def _load(pool: ThreadPoolExecutor, title: str, name: str, case: CheckContext) -> tuple[Check, ...]:
    """Return the checks of a module; a library that breaks on import may break it in any way."""
    if case.settings_error is not None and title != "This machine":
        return (_known(not_checked(name, "the settings cannot be read")),)
    loading = pool.submit(_list_checks, name, case)
    error = loading.exception()
    if error is None:
        return loading.result()
    told = f"what these checks need cannot be loaded: {type(error).__name__}: {error}"
    return (_known(broken(name, told, "Look at `packages` above.")),)


def _list_checks(name: str, case: CheckContext) -> tuple[Check, ...]:
    checks: tuple[Check, ...] = import_module(f"penstock.deployments.doctor.{name}").list_checks(case)
    return checks


def _known(finding: Finding) -> Check:
    return Check(finding.subject, lambda: [finding])


def _explain(subject: str, error: BaseException) -> list[Finding]:
    """Turn what ended a check into findings; an error that nobody foresaw ends no other check."""
    match error:
        case SpecError():
            return [broken(subject, f"{error.file}: {problem}") for problem in error.problems]
        case SettingsError():
            return [broken(subject, error.what, error.remedy)]
        case PenstockError():
            return [broken(subject, str(error))]
        case httpx.HTTPStatusError() if error.response.status_code in (401, 403):
            return [not_checked(subject, f"the server refuses: {error.response.status_code}")]
        case httpx.HTTPError() | OSError():
            return [broken(subject, f"no answer: {error or type(error).__name__}", "Run again, and read its log.")]
    return [broken(subject, f"the check itself failed: {type(error).__name__}: {error}", "Report it.")]
