"""Values reach tasks as they are, without Prefect's search for futures in their fields."""

from dataclasses import dataclass
from typing import Any

import pytest
from prefect import task
from prefect.cache_policies import NO_CACHE

from penstock.tasks.inputs import whole

pytestmark = pytest.mark.usefixtures("prefect_api")
looked_at: list[str] = []


@dataclass(frozen=True)
class Watched:
    """A value that records who reads its field."""

    rows: int

    def __getattribute__(self, name: str) -> Any:
        if name == "rows":
            looked_at.append(name)
        return object.__getattribute__(self, name)


@task(cache_policy=NO_CACHE)  # as all of ours
def give_back(value: Watched) -> bool:
    return type(value) is Watched


@pytest.mark.parametrize("as_it_is", [True, False])
def test_a_task_gets_the_value_itself_and_prefect_reads_none_of_its_fields(as_it_is: bool) -> None:
    looked_at.clear()

    assert give_back(whole(Watched(3)) if as_it_is else Watched(3))

    assert bool(looked_at) is not as_it_is  # otherwise Prefect has changed, and `whole` does nothing
