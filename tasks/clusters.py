"""Connect to Dask and Ray, count their slots, and find out where their workers are and what they have.

Both are optional, so each is imported inside its functions.
"""

import asyncio
import os
import socket
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import httpx
from prefect.task_runners import TaskRunner

from penstock.errors import ClusterUnreachable, SettingsError
from penstock.resources.runner import Runner
from penstock.tasks.worker_facts import Question, WorkerFacts, collect_facts

T = TypeVar("T")

CONNECT_SECONDS = 10
ANSWER_SECONDS = 60
"""How long a worker may take to load the libraries and the model, and to open the databases."""

Answers = Mapping[str, WorkerFacts | Exception]
"""By the address of a worker: its facts, or the error that prevents its answer."""


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

    def ask_workers(self, runner: Runner, question: Question) -> Answers:
        """Return the facts of each worker, by its address. An error says why a worker has not answered."""


class _Dask:
    @contextmanager
    def connected(self, runner: Runner) -> Iterator[tuple[TaskRunner[Any], Workers]]:
        try:
            import distributed  # noqa: F401 # so that the error names this package if it is missing
            from prefect_dask import DaskTaskRunner
        except ModuleNotFoundError as error:
            raise _not_installed(runner, error) from None
        _check_port(runner)
        workers = _run_beside(_ask_scheduler(runner))
        found = Workers(
            slots=sum(worker["nthreads"] for worker in workers.values()),
            most_threads=max((worker["nthreads"] for worker in workers.values()), default=1),
            elsewhere=_elsewhere(workers),
        )
        yield DaskTaskRunner(address=runner.address), found

    def slots(self, made: Any) -> int:
        return sum(made.client.nthreads().values())

    def ask_workers(self, runner: Runner, question: Question) -> Answers:
        return _run_beside(_ask_dask_workers(runner, question))


def _run_beside(asking: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in an event loop of its own, because the flow may have one."""
    with ThreadPoolExecutor(1) as beside:
        return beside.submit(asyncio.run, asking).result()


async def _ask_dask_workers(runner: Runner, question: Question) -> Answers:
    """Ask all workers at once, each with a time limit of its own."""
    from distributed import Client

    async with Client(runner.address, asynchronous=True, set_as_default=False, timeout=CONNECT_SECONDS) as client:

        async def ask(address: str) -> WorkerFacts | Exception:
            asked = client.run(_answer, question, workers=[address], on_error="return")
            try:
                answer: WorkerFacts | Exception = (await asyncio.wait_for(asked, ANSWER_SECONDS))[address]
            except TimeoutError:
                return ClusterUnreachable(str(runner), f"{address} does not answer within {ANSWER_SECONDS} s")
            return answer

        addresses = list((await client.scheduler.identity(n_workers=-1))["workers"])
        answers = await asyncio.gather(*map(ask, addresses), return_exceptions=True)
        return dict(zip(addresses, answers, strict=True))


async def _answer(question: Question) -> WorkerFacts:
    """Collect the facts beside the event loop of the worker."""
    return await asyncio.to_thread(collect_facts, question)


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
            _check_head(runner)
        try:
            ray.init(runner.address, namespace="penstock", logging_level="WARNING", log_to_driver=False)
        except (ConnectionError, RuntimeError, ray.exceptions.RayError, SystemExit) as error:
            # without a head node, Ray ends the process after minutes
            raise ClusterUnreachable(str(runner), _first_line(error)) from None
        try:
            nodes = [node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]]
            yield RayTaskRunner(), Workers(self.slots(None), 1, _elsewhere(f"tcp://{host}" for host in nodes))
        finally:
            ray.shutdown()

    def slots(self, made: Any) -> int:
        import ray

        return int(ray.cluster_resources().get("CPU", 0))

    def ask_workers(self, runner: Runner, question: Question) -> Answers:
        """Ask a process of each node. Each process that Ray starts later is asked with its first partition."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        asking = ray.remote(num_cpus=0, max_retries=0)(collect_facts)
        nodes = {node["NodeManagerAddress"]: node["NodeID"] for node in ray.nodes() if node["Alive"]}
        asked = {
            address: asking.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
                question
            )
            for address, node in nodes.items()
        }
        answered, _ = ray.wait(list(asked.values()), num_returns=len(asked), timeout=ANSWER_SECONDS)
        found: dict[str, WorkerFacts | Exception] = {}
        for address, reference in asked.items():
            if reference not in answered:
                reason = f"{address} does not answer within {ANSWER_SECONDS} s"
                found[address] = ClusterUnreachable(str(runner), reason)
                continue
            try:
                found[address] = ray.get(reference)
            except ray.exceptions.RayError as error:
                found[address] = error
        return found


def _check_head(runner: Runner) -> None:
    """Check that the port speaks gRPC, as a Ray head does. Ray's own call would try for 40 s, then end the process."""
    if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
        return
    method = f"http://{runner.address}/grpc.health.v1.Health/Check"
    try:
        with httpx.Client(http1=False, http2=True, timeout=CONNECT_SECONDS, trust_env=False) as client:
            asked = {"content-type": "application/grpc", "te": "trailers"}
            answer = client.post(method, content=bytes(5), headers=asked)
        found = answer.headers.get("content-type", "")
    except httpx.TimeoutException:
        raise ClusterUnreachable(str(runner), f"no Ray head answers within {CONNECT_SECONDS} s") from None
    except httpx.HTTPError as error:
        raise ClusterUnreachable(str(runner), f"the port is open, and no Ray head is there: {error}") from None
    if not found.startswith("application/grpc"):
        raise ClusterUnreachable(str(runner), "a web server is there, and no Ray head")


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
