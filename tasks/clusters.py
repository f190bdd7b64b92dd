"""Dask and Ray, as far as Penstock knows them: connect, count what they take at once, find out where their workers are.

Both are extras, so each is imported inside its functions.
"""

import asyncio
import os
import socket
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from prefect.task_runners import TaskRunner

from penstock.errors import ClusterUnreachable, SettingsError
from penstock.resources.runner import Runner

CONNECT_SECONDS = 10


@dataclass(frozen=True)
class Workers:
    """What a cluster has."""

    slots: int
    """Partitions that it can run at once."""
    most_threads: int
    """Partitions that one of its processes can run at once."""
    elsewhere: frozenset[str]
    """Hosts of its workers that are not this machine."""


class Cluster(Protocol):
    """A kind of cluster."""

    def connected(self, runner: Runner) -> AbstractContextManager[tuple[TaskRunner[Any], Workers]]:
        """Connect, and give Prefect's task runner for the cluster and what the cluster has."""

    def slots(self, made: Any) -> int:
        """Count what the cluster can run at once now, by the task runner of a flow run."""


class _Dask:
    @contextmanager
    def connected(self, runner: Runner) -> Iterator[tuple[TaskRunner[Any], Workers]]:
        try:
            import distributed  # noqa: F401 # whoever lacks it is told so, not that another module fails
            from prefect_dask import DaskTaskRunner
        except ModuleNotFoundError as error:
            raise _not_installed(runner, error) from None
        _knock(runner)
        with ThreadPoolExecutor(1) as beside:  # a loop of its own: the flow may have one
            workers = beside.submit(asyncio.run, _ask_scheduler(runner)).result()
        found = Workers(
            slots=sum(worker["nthreads"] for worker in workers.values()),
            most_threads=max((worker["nthreads"] for worker in workers.values()), default=1),
            elsewhere=_elsewhere(workers),
        )
        yield DaskTaskRunner(address=runner.address), found

    def slots(self, made: Any) -> int:
        return sum(made.client.nthreads().values())


async def _ask_scheduler(runner: Runner) -> dict[str, Any]:
    """Return the workers. Not by a Client, which waits for ever where something else than a scheduler listens."""
    from distributed import rpc
    from distributed.security import Security

    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            scheduler = rpc(runner.address, connection_args=Security().get_connection_args("client"))
            async with scheduler:
                told: dict[str, Any] = (await scheduler.identity(n_workers=-1))["workers"]
                return told
    except TimeoutError:
        raise ClusterUnreachable(str(runner), f"no scheduler answers within {CONNECT_SECONDS} s") from None
    except (OSError, ValueError) as error:  # something else than a scheduler
        raise ClusterUnreachable(str(runner), _first_line(error)) from None


class _Ray:
    @contextmanager
    def connected(self, runner: Runner) -> Iterator[tuple[TaskRunner[Any], Workers]]:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # for a Ray that this process starts
        try:
            import ray
            from prefect_ray import RayTaskRunner
        except ModuleNotFoundError as error:
            raise _not_installed(runner, error) from None
        if runner.address not in ("auto", "local"):
            _knock(runner)
        try:
            ray.init(runner.address, namespace="penstock", logging_level="WARNING", log_to_driver=False)
        except (ConnectionError, SystemExit) as error:  # a head that is gone makes Ray end the process, after minutes
            raise ClusterUnreachable(str(runner), _first_line(error)) from None
        try:
            nodes = [node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]]
            yield RayTaskRunner(), Workers(self.slots(None), 1, _elsewhere(f"tcp://{host}" for host in nodes))
        finally:
            ray.shutdown()

    def slots(self, made: Any) -> int:
        import ray

        return int(ray.cluster_resources().get("CPU", 0))


CLUSTERS: dict[str, Cluster] = {"dask": _Dask(), "ray": _Ray()}


def _not_installed(runner: Runner, error: ModuleNotFoundError) -> SettingsError:
    return SettingsError(
        f"PENSTOCK_RUNNER is {runner}, and {error.name} is not installed",
        f"Install `penstock[{runner.kind}]` here and on the workers, or set PENSTOCK_RUNNER to threads:n.",
    )


def _knock(runner: Runner) -> None:
    """See that something listens, for who knocks is told why not; the libraries try for up to minutes."""
    address = urlsplit(runner.address if "://" in runner.address else f"tcp://{runner.address}")
    try:
        socket.create_connection((address.hostname or "", address.port or 0), CONNECT_SECONDS).close()
    except OSError as error:
        raise ClusterUnreachable(str(runner), error.strerror or str(error)) from None


def _elsewhere(addresses: Iterable[str]) -> frozenset[str]:
    return frozenset(
        host for host in (urlsplit(each).hostname or "" for each in addresses) if host and not _is_here(host)
    )


def _is_here(host: str) -> bool:
    """Whether an address is one of this machine's: only those can be bound to."""
    try:
        kind, *_, place = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(kind) as probe:
            probe.bind(place)
    except OSError:
        return False
    return True


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
