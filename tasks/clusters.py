"""Connect to Dask and Ray, count their slots, and find out where their workers are.

Both are optional, so each is imported inside its functions.
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
    """The workers of a cluster."""

    slots: int
    """Partitions that it can run at once."""
    most_threads: int
    """Partitions that one of its processes can run at once."""
    elsewhere: frozenset[str]
    """Hosts of its workers that are not this machine."""


class Cluster(Protocol):
    """A kind of cluster."""

    def connected(self, runner: Runner) -> AbstractContextManager[tuple[TaskRunner[Any], Workers]]:
        """Connect, and give Prefect's task runner for the cluster, and its workers."""

    def slots(self, made: Any) -> int:
        """Return how many partitions the cluster can run at once now, from a flow run's task runner."""


class _Dask:
    @contextmanager
    def connected(self, runner: Runner) -> Iterator[tuple[TaskRunner[Any], Workers]]:
        try:
            import distributed  # noqa: F401 # so that the error names this package if it is missing
            from prefect_dask import DaskTaskRunner
        except ModuleNotFoundError as error:
            raise _not_installed(runner, error) from None
        _check_port(runner)
        with ThreadPoolExecutor(1) as beside:  # its own event loop, because the flow may have one
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
    """Return the workers, without a `Client`: it waits for ever if the port belongs to another service."""
    from distributed import rpc
    from distributed.security import Security

    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            scheduler = rpc(runner.address, connection_args=Security().get_connection_args("client"))
            async with scheduler:
                workers: dict[str, Any] = (await scheduler.identity(n_workers=-1))["workers"]
                return workers
    except TimeoutError:
        raise ClusterUnreachable(str(runner), f"no scheduler answers within {CONNECT_SECONDS} s") from None
    except (OSError, ValueError) as error:  # not a scheduler
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
            _check_port(runner)
        try:
            ray.init(runner.address, namespace="penstock", logging_level="WARNING", log_to_driver=False)
        except (ConnectionError, SystemExit) as error:  # without a head node, Ray ends the process after minutes
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


def _check_port(runner: Runner) -> None:
    """Check that the port is open, because the client libraries retry for minutes."""
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
    """Whether an address belongs to this machine: only those can be bound."""
    try:
        kind, *_, place = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(kind) as probe:
            probe.bind(place)
    except OSError:
        return False
    return True


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
