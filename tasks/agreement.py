"""Compare what workers have with what the flow has, before a worker scores a partition.

Differences that could change rows are refused. Others are warnings. `docs/scaling.md` lists both.
"""

import ipaddress
import os
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace

from penstock.errors import WorkerDifference, WorkersDiffer
from penstock.run_types import Pins
from penstock.spec.pipeline import Pipeline
from penstock.tasks.worker_facts import (
    CARRYING,
    DECIDING,
    DatabaseFacts,
    Question,
    WorkerFacts,
    collect_facts,
    sample_files,
)

ONE_IMAGE = "Use one image, or one lock, for the flow and all workers."
SAME_SETTING = "Set it on the worker as where the flow runs."


@dataclass(frozen=True)
class Agreement:
    """What each worker must have. It travels with each partition, and contains no secret."""

    runner: str
    question: Question
    expected: WorkerFacts


_agreed: set[bytes] = set()
"""The agreements that this process has been compared with, by their salt."""
_comparing = threading.Lock()


def make_agreement(runner: str, pipeline: Pipeline, pins: Pins) -> Agreement:
    """Collect what the flow has."""
    question = Question(pipeline, pins, secrets.token_bytes(16), os.getcwd(), sample_files(pipeline))
    return Agreement(runner, question, collect_facts(replace(question, pins={}), with_blocks=True))


def require_agreement(agreement: Agreement | None) -> None:
    """Compare this worker with the flow, once for each flow run. A worker may join when a run has begun.

    Raises:
        WorkersDiffer: it could score otherwise than the flow expects, or cannot score at all.
    """
    if agreement is None or agreement.question.salt in _agreed:
        return
    with _comparing:
        if agreement.question.salt in _agreed:
            return
        found = collect_facts(agreement.question, with_blocks=True)
        if differences := list_differences(agreement, found, found.host):
            raise WorkersDiffer(agreement.runner, differences)
        _agreed.add(agreement.question.salt)


def list_differences(agreement: Agreement, found: WorkerFacts, worker: str) -> tuple[WorkerDifference, ...]:
    """Return the differences that could change rows.

    Args:
        worker: host or address, as people know it.
    """
    return tuple(WorkerDifference(worker, what, remedy) for what, remedy in _find_differences(agreement, found, worker))


def list_remarks(agreement: Agreement, found: WorkerFacts) -> tuple[str, ...]:
    """Return the differences that cannot change rows."""
    here = agreement.expected
    remarks = [_compare(name, here.packages[name], found.packages.get(name, "")) for name in CARRYING]
    if found.python.split(".")[:2] == here.python.split(".")[:2]:
        remarks.append(_compare("Python", here.python, found.python))
    remarks.append(_compare("PENSTOCK_STATEMENT_SECONDS", str(here.statement_seconds), str(found.statement_seconds)))
    return tuple(filter(None, remarks))


def _find_differences(agreement: Agreement, found: WorkerFacts, worker: str) -> Iterator[tuple[str, str]]:
    here = agreement.expected
    if found.fault:
        yield f"the settings do not work: {found.fault.rstrip('.')}", SAME_SETTING
        return
    minor = [".".join(each.python.split(".")[:2]) for each in (here, found)]
    if what := _compare("Python", *minor):
        yield what, ONE_IMAGE
    for name in ("penstock", *DECIDING):
        if what := _compare(name, here.packages[name], found.packages.get(name, "")):
            yield what, ONE_IMAGE
    if found.packages.get("penstock") == here.packages["penstock"] and found.code != here.code:
        yield f"penstock {here.packages['penstock']} has other code ({found.code}, not {here.code})", ONE_IMAGE
    if found.secret != here.secret:
        yield "PENSTOCK_PRIVATE_KEY is another one, so hashes of private values would differ", SAME_SETTING
    if found.seal_secret != here.seal_secret:
        yield "PENSTOCK_SEAL_KEY is another one, so rows of one run would be sealed under several", SAME_SETTING
    if what := _compare("PENSTOCK_DEVICE", here.device, found.device):
        yield what, SAME_SETTING
    for name, database in found.databases.items():
        yield from _compare_databases(name, here.databases[name], database, worker)
    for model, fault in found.models.items():
        if fault:
            remedy = "Give the workers the same model store: PENSTOCK_MODEL_STORE as a shared folder or a URL."
            yield f"model {model} cannot be loaded in {found.folder}: {fault.rstrip('.')}", remedy
    for source, fault in found.files.items():
        if fault:
            remedy = "Write an absolute path of a folder that all machines mount, or the URL of an object store."
            yield f"the files of source `{source}` cannot be read: {fault.rstrip('.')}", remedy


def _compare_databases(name: str, here: DatabaseFacts, there: DatabaseFacts, worker: str) -> Iterator[tuple[str, str]]:
    variable = f"PENSTOCK_CONNECTIONS__{name.upper()}"
    if there.fault and is_loopback(there.host):
        better = here.host if here.host and not is_loopback(here.host) else "the server's own address"
        yield (
            f"connection `{name}` cannot be reached: its host is {there.host}, which on {worker} is that machine "
            f"itself ({there.fault.rstrip(' .')})",
            f"Write {better} instead of {there.host} in {variable} there, and let the server listen on it.",
        )
    elif there.fault:
        where = f" at {there.place}" if there.place else ""
        yield (
            f"connection `{name}`{where} cannot be opened: {there.fault.rstrip(' .')}",
            f"Check {variable} there, and that the server listens on an address that this machine reaches.",
        )
    elif here.identity is not None and there.identity != here.identity:
        yield (
            f"connection `{name}` is another database: {there.place}; the flow has {here.place}",
            f"Set {variable} there to the database of the flow.",
        )


def is_loopback(host: str) -> bool:
    """Whether a host's name or address means the machine itself."""
    if host.casefold() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _compare(name: str, here: str, there: str) -> str:
    if here == there:
        return ""
    return f"{name} is {there or 'not installed'}, and {here or 'not installed'} where the flow runs"
