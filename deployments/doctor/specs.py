"""Checks of the pipelines folder."""

from collections.abc import Iterator
from functools import partial

from penstock.deployments.doctor.context import CheckContext
from penstock.deployments.doctor.finding import Check, Finding, broken, ok, warning


def list_checks(case: CheckContext) -> tuple[Check, ...]:
    return (Check("specs", partial(check_specs, case)),)


def check_specs(case: CheckContext) -> Iterator[Finding]:
    for error in case.spec_errors:
        yield broken(
            "specs", f"{error.file}: {'; '.join(map(str, error.problems))}", "Correct it; try `penstock check`."
        )
    if case.pipelines:
        yield ok("specs", f"{len(case.pipelines)} in {case.settings.pipelines} load")
    elif not case.spec_errors:
        yield warning("specs", f"no pipelines in {case.settings.pipelines}", "Put a YAML file there.")
