"""Checks of the installed packages: against the versions that Penstock requires, and against the lock."""

import re
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

import penstock
from penstock.deployments.doctor.context import CheckContext
from penstock.deployments.doctor.finding import Check, Finding, broken, not_checked, ok, warning

PACKAGE = Path(penstock.__file__).parent
LOCK = PACKAGE / "requirements.lock"
"""Ships in the wheel. In a checkout it is a link to the runtime lock, and in an image it may be missing."""
BREAKS = {
    "fastapi": "from 0.151 on it refuses requests of Prefect's client, and with 0.155 the server does not import",
    "sqlalchemy": "with 2.1 Prefect's scheduler creates no runs and logs no error",
    "prefect": "3.8 has the fixes of the 2026 advisories, and 3.9 is not tested",
    "xgboost": "a model of a newer version loads without an error and may score wrong",
    "great-expectations": "Penstock depends on its result formats",
    "pandas": "Penstock depends on its types",
}
"""The known effects of a version outside the bounds."""
SHOWN = 4


def list_checks(case: CheckContext) -> tuple[Check, ...]:
    return (
        Check("packages", check_bounds),
        Check("lock", partial(check_lock, LOCK)),
    )


def name_remedy(package: Path) -> str:
    """Return the remedy: how to reinstall the locked versions, in a checkout or from a wheel.

    Args:
        package: Folder of the installed `penstock` package.
    """
    if (package.parent / "Makefile").is_file():
        return "Delete `.venv` and run any `make` target: it installs the locked versions again."
    return (
        "Install the locked versions again: "
        f"`{sys.executable} -m pip install --no-deps --require-hashes -r {package / LOCK.name}`."
    )


def check_bounds() -> Iterator[Finding]:
    """Compare the installed versions with the bounds that Penstock declares."""
    try:
        declared = metadata.requires("penstock") or []
    except metadata.PackageNotFoundError:
        yield not_checked("packages", "Penstock is not installed as a package here, so it declares nothing")
        return
    wanted = [Requirement(text) for text in declared]
    yield from judge_bounds([each for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""})])


def judge_bounds(wanted: Sequence[Requirement]) -> Iterator[Finding]:
    bad = 0
    for requirement in wanted:
        found = installed_version(requirement.name)
        if found is not None and requirement.specifier.contains(found, prereleases=True):
            continue
        bad += 1
        what = f"{found or 'not installed'}, and {requirement.specifier} is wanted"
        why = BREAKS.get(requirement.name)
        yield broken(requirement.name, f"{what}: {why}" if why else what, name_remedy(PACKAGE))
    if not bad:
        prefect, xgboost = (installed_version(name) for name in ("prefect", "xgboost"))
        yield ok("packages", f"{len(wanted)} as wanted; prefect {prefect}, xgboost {xgboost}")


def check_lock(lock: Path) -> Iterator[Finding]:
    """Compare the installed versions with the lock. The check of the bounds reports missing packages."""
    if not lock.is_file():
        yield not_checked("lock", f"there is no {lock.name} in Penstock's package")
        return
    locked = read_lock(lock.read_text(encoding="utf-8"))
    drifted = [
        f"{name} {found} (lock: {version})"
        for name, version in locked.items()
        if (found := installed_version(name)) is not None and found != version
    ]
    if not drifted:
        yield ok("lock", f"installed versions are those of {lock.name}")
        return
    more = f" and {len(drifted) - SHOWN} more" if len(drifted) > SHOWN else ""
    yield warning("lock", f"drift: {', '.join(drifted[:SHOWN])}{more}", name_remedy(PACKAGE))


def read_lock(text: str) -> dict[str, str]:
    """Return the locked version of each package that is meant for this Python."""
    locked = {}
    for line in re.findall(r"^([A-Za-z0-9][^\s\\]*==[^\\\n]+)", text, re.MULTILINE):
        requirement = Requirement(line.strip())
        if requirement.marker is None or requirement.marker.evaluate():
            locked[requirement.name] = next(iter(requirement.specifier)).version
    return locked


def installed_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
