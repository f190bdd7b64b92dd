"""What a network does to a connection to Postgres: cut it in the middle of the rows, lose the answer, say nothing."""

from collections.abc import Callable

import pytest

from tests.faults.conftest import Tell
from tests.faults.harness.proxy import Harm, Proxy
from tests.faults.harness.scene import Scene

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_api"), pytest.mark.timeout(600)]
soak = pytest.mark.soak
ROWS_IN, ROWS_OUT = b'. "card_risk_scores__history"', b'"first" \nFROM "payments" \nWHERE'
PUBLISH = b"published_at="
"""What a run says when it loads, reads its rows, publishes."""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, empty_database: Callable[..., str]) -> Scene:
    """A day whose partitions are of some hundred kilobytes, so that they can be cut in the middle."""
    scene = Scene(tmp_path_factory.mktemp("large"), "postgresql", empty_database, a_day=6000)
    scene.write_spec(3000)
    return scene


@pytest.mark.parametrize("way", ["in", pytest.param("out", marks=soak)])
def test_a_connection_cut_in_the_middle_of_the_rows_is_healed_by_the_runs_own_retries(
    large: Scene, way: str, tell: Tell
) -> None:
    trial = large.trial()
    harm = Harm("reset", ROWS_IN, "up", 80_000) if way == "in" else Harm("reset", ROWS_OUT, "down", 40_000)
    with Proxy(harm) as proxy:
        trial.reach(**({"warehouse": proxy.front(trial.url)} if way == "in" else {"shop": proxy.front(large.shop_url)}))
        ending = trial.run(how="flow")

    assert proxy.happened.is_set()
    assert ending.state == "Completed", ending
    trial.check_healed()
    what = "COPY into the history table" if way == "in" else "the read of the source"
    tell(f"connection reset in the middle of {what}", "postgresql", "healed by its own retries")


@pytest.mark.parametrize("step", [PUBLISH, pytest.param(ROWS_IN, marks=soak)], ids=["publish", "load"])
def test_a_commit_whose_answer_the_network_loses_is_done_once(
    scenes: Callable[[str], Scene], step: bytes, tell: Tell
) -> None:
    trial = scenes("postgresql").trial()
    with Proxy(Harm("lose", step)) as proxy:
        trial.reach(warehouse=proxy.front(trial.url))
        ending = trial.run(how="flow")

    assert proxy.happened.is_set()
    assert ending.state == "Completed", ending
    assert [run.state for run in trial.ledger()] == ["published"]
    trial.check_healed()
    name = "publish" if step is PUBLISH else "load"
    tell(
        f"answer to COMMIT of the {name} lost on the network", "postgresql", "healed by its own retries, nothing twice"
    )


@soak
@pytest.mark.parametrize("step", [PUBLISH, ROWS_IN, ROWS_OUT], ids=["publish", "load", "read"])
def test_a_server_that_says_nothing_more_is_taken_for_gone(
    scenes: Callable[[str], Scene], step: bytes, tell: Tell
) -> None:
    scene = scenes("postgresql")
    trial = scene.trial(PENSTOCK_STATEMENT_SECONDS="6")
    connection, url = ("shop", scene.shop_url) if step is ROWS_OUT else ("warehouse", trial.url)
    with Proxy(Harm("silence", step)) as proxy:
        trial.reach(**{connection: proxy.front(url)})
        ending = trial.run(how="flow")

    assert "no answer for 16 s over a connection that is still up" in ending.failures, ending
    assert ending.state == "Completed", ending
    trial.check_healed()
    name = {PUBLISH: "publish", ROWS_IN: "load", ROWS_OUT: "read"}[step]
    told = "given up 10 s after the statement's own timeout; healed by its own retries"
    tell(f"replies lost in the {name}, the connection stays up", "postgresql", told)


@soak
def test_a_slow_network_only_costs_time(scenes: Callable[[str], Scene], tell: Tell) -> None:
    scene = scenes("postgresql")
    trial = scene.trial()
    with Proxy(delay=0.02) as shop, Proxy(delay=0.02) as warehouse:
        trial.reach(shop=shop.front(scene.shop_url), warehouse=warehouse.front(trial.url))
        ending = trial.run(how="flow")

    assert shop.carried
    assert warehouse.carried
    assert ending.state == "Completed", ending
    trial.check_healed()
    tell("every packet delayed by 20 ms, both ways", "postgresql", "published")
