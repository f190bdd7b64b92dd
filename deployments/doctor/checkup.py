"""Make every check, side by side, so that one that hangs or fails takes no other with it."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TookTooLong
from dataclasses import replace
from importlib import import_module
from time import monotonic

import httpx

from deployments.doctor.case import Case
from deployments.doctor.finding import Check, Finding, Section, broken, not_checked
from deployments.doctor.reaching import reach_server
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


def examine(case: Case, tell: Callable[[str], None] = lambda what: None) -> tuple[Section, ...]:
    """Make every check and return what was found, group by group.

    Args:
        tell: Told what is being looked at.
    """
    first = {"Prefect server": [reach_server(case)]}
    if case.api_url is not None and first["Prefect server"][0].state == "broken":
        case = replace(case, api_url=None, why_no_server="the Prefect server does not answer")
    findings: dict[str, list[Finding | Future[list[Finding]]]] = {title: [*first.get(title, ())] for title in GROUPS}
    pending: dict[Future[list[Finding]], Check] = {}
    pool = ThreadPoolExecutor(8, thread_name_prefix="doctor")
    # All imports before any thread: two threads that import at once can meet in half-loaded modules.
    listed = [(title, check) for title in GROUPS for check in _list_checks(title, case, tell)]
    for title, check in listed:
        if isinstance(check, Finding):
            findings[title].append(check)
        elif check.needs_server and case.api_url is None:
            findings[title].append(not_checked(check.subject, case.why_no_server))
        else:
            future = pool.submit(_collect, check)
            pending[future] = check
            findings[title].append(future)
    deadline = monotonic() + CHECK_SECONDS
    sections = []
    for title, entries in findings.items():
        tell(title)
        made: list[Finding] = []
        for entry in entries:
            made += [entry] if isinstance(entry, Finding) else _await(entry, pending[entry], deadline)
        sections.append(Section(title, tuple(made)))
    pool.shutdown(wait=False, cancel_futures=True)
    return tuple(sections)


def _list_checks(title: str, case: Case, tell: Callable[[str], None]) -> Iterator[Check | Finding]:
    if case.settings_error is not None and title != "This machine":
        yield not_checked(title.lower(), "the settings cannot be read")
        return
    for name in GROUPS[title]:
        tell(f"{title}: loading")
        try:
            module = import_module(f"deployments.doctor.{name}")
        except ImportError as error:
            yield broken(name, f"a library cannot be imported: {error}", "Install from requirements.lock again.")
            continue
        yield from module.list_checks(case)


def _collect(check: Check) -> list[Finding]:
    return list(check.examine())


def _await(future: Future[list[Finding]], check: Check, deadline: float) -> list[Finding]:
    try:
        error = future.exception(timeout=max(0.1, deadline - monotonic()))
    except TookTooLong:
        return [broken(check.subject, f"no answer within {CHECK_SECONDS:.0f} s", "Look what it waits for.")]
    return future.result() if error is None else _explain(check.subject, error)


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
