"""The flow runs of intervals have the parameters that Prefect would show, and share what is the same for all."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.utilities.asyncutils import run_coro_as_sync

from penstock.tasks.inputs import whole
from penstock.tasks.subflow import prepare_subflow, shared_client


@dataclass
class Spec:
    name: str


@flow
def child(spec: Spec, number: int) -> State[Any]:
    return Completed()


@pytest.fixture
def no_server() -> Iterator[None]:
    """A server that does not answer: opening a client sends nothing."""
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        yield


def test_the_parameters_are_those_that_prefect_would_show() -> None:
    prepared = prepare_subflow(child, ThreadPoolTaskRunner())
    one, other = Spec("one"), Spec("other")

    for spec, number in ((one, 1), (one, 2), (other, 2), (one, 3)):
        shown = prepared.serialize_parameters({"spec": whole(spec), "number": number})
        assert shown == child.serialize_parameters({"spec": spec, "number": number})


def test_an_object_that_stays_is_converted_once() -> None:
    prepared = prepare_subflow(child, ThreadPoolTaskRunner())
    spec = Spec("one")

    first, second = (prepared.serialize_parameters({"spec": whole(spec), "number": n}) for n in (1, 2))

    assert first["spec"] is second["spec"]
    assert (first["number"], second["number"]) == (1, 2)


def test_the_flow_itself_keeps_its_runner() -> None:
    before = child.task_runner
    runner: TaskRunner[Any] = ThreadPoolTaskRunner()

    assert prepare_subflow(child, runner).task_runner is runner
    assert child.task_runner is before


def test_prefect_takes_the_shared_client_and_opens_its_own_afterwards(no_server: None) -> None:
    async def client() -> object:
        return get_client()

    with shared_client():
        shared = run_coro_as_sync(client())
        assert run_coro_as_sync(client()) is shared
    assert run_coro_as_sync(client()) is not shared
