"""Run all checks in parallel, so that one that hangs or fails does not affect the others."""

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
"""How long all checks together may take. Each probe has a shorter limit of its own."""
GROUPS = {
    "This machine": ("machine", "packages"),
    "Databases": ("databases",),
    "Models": ("stores",),
    "Prefect server": ("server",),
    "Deployments": ("specs", "deployed"),
}
"""The modules of each group. They are imported one by one, because an import may be what is broken."""


def examine(case: CheckContext, show: Callable[[str], None] = lambda what: None) -> tuple[Section, ...]:
    """Run every check and return the findings by group.

    Args:
        show: Called with a text for each phase.
    """
    show("asking the Prefect server, loading libraries")
    first = {"Prefect server": [reach_server(case)]}
    if case.api_url is not None and first["Prefect server"][0].state == "broken":
        case = replace(case, api_url=None, why_no_server="the Prefect server does not answer")
    pool = ThreadPoolExecutor(8, thread_name_prefix="doctor")
    # Import one after the other, because two threads that import at once can see half-loaded modules.
    listed = {title: [check for name in GROUPS[title] for check in _load(pool, title, name, case)] for title in GROUPS}
    pending = {title: [_start(pool, check, case) for check in checks] for title, checks in listed.items()}
    deadline = monotonic() + CHECK_SECONDS
    sections = []
    for title, started in pending.items():
        show(f"waiting for answers: {title.lower()}")
        found = [finding for each in started for finding in each.wait(deadline)]
        sections.append(Section(title, (*first.get(title, ()), *found)))
    pool.shutdown(wait=False, cancel_futures=True)
    return tuple(sections)


@dataclass(frozen=True)
class _Started:
    """A running check. Its findings are kept however it ends."""

    check: Check
    future: Future[None]
    found: list[Finding]

    def wait(self, deadline: float) -> list[Finding]:
        subject = self.check.subject
        try:
            error = self.future.exception(timeout=max(0.1, deadline - monotonic()))
        except TookTooLong:
            return [
                *self.found,
                broken(subject, f"no answer within {CHECK_SECONDS:.0f} s", "Find out what it waits for."),
            ]
        return self.found if error is None else [*self.found, *_explain(subject, error)]


def _start(pool: ThreadPoolExecutor, check: Check, case: CheckContext) -> _Started:
    if check.needs_server and case.api_url is None:
        check = _known(not_checked(check.subject, case.why_no_server))
    found: list[Finding] = []
    return _Started(check, pool.submit(_collect, check, found), found)


def _collect(check: Check, found: list[Finding]) -> None:
    for finding in check.examine():
        found.append(finding)  # one by one, so that findings before an error are kept


def _load(pool: ThreadPoolExecutor, title: str, name: str, case: CheckContext) -> tuple[Check, ...]:
    """Return the checks of a module. A library that fails on import may raise any error."""
    if case.settings_error is not None and title != "This machine":
        return (_known(not_checked(name, "the settings cannot be read")),)
    loading = pool.submit(_list_checks, name, case)
    error = loading.exception()
    if error is None:
        return loading.result()
    what = f"a library of these checks cannot be loaded: {type(error).__name__}: {error}"
    return (_known(broken(name, what, "Look at `packages` above.")),)


def _list_checks(name: str, case: CheckContext) -> tuple[Check, ...]:
    checks: tuple[Check, ...] = import_module(f"penstock.deployments.doctor.{name}").list_checks(case)
    return checks


def _known(finding: Finding) -> Check:
    return Check(finding.subject, lambda: [finding])


def _explain(subject: str, error: BaseException) -> list[Finding]:
    """Turn the error of a check into findings. An unexpected error does not end other checks."""
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
            return [
                broken(subject, f"no answer: {error or type(error).__name__}", "Run again, and read the server's log.")
            ]
    return [broken(subject, f"the check itself failed: {type(error).__name__}: {error}", "Report it.")]
