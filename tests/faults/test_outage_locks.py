"""What a busy Postgres ends by its own rules: statements and locks that take too long, deadlocks, idle transactions.

Each is transient: the step is tried again, whole.
"""

import time
from collections.abc import Callable

import psycopg
import pytest
import sqlalchemy as sa

from tests.faults.conftest import Tell
from tests.faults.harness.child import Fault
from tests.faults.harness.scene import Scene, Trial
from tests.waiting import SECONDS

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_api"), pytest.mark.timeout(600)]
soak = pytest.mark.soak
IDLE = "select pid from pg_stat_activity where datname = current_database() and state = 'idle in transaction'"
GUARD = "UPDATE penstock_intervals"
LOADED = "after ADBC COPY card_risk_scores__history"


def limit_sessions(trial: Trial, **settings: str) -> None:
    """Have the run's sessions in the warehouse ended by other limits than its own."""
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    limited = sa.make_url(trial.url).update_query_dict({"options": options})
    trial.reach(warehouse=limited.render_as_string(hide_password=False))


def other_session(trial: Trial) -> "psycopg.Connection[tuple[object, ...]]":
    """Connect as another application would."""
    url = sa.make_url(trial.url)
    return psycopg.connect(host=str(url.query["host"]), user="postgres", dbname=url.database)


@pytest.mark.parametrize("limit", ["lock_timeout", pytest.param("statement_timeout", marks=soak)])
def test_a_publish_that_waits_too_long_for_its_interval_is_tried_again(
    scenes: Callable[[str], Scene], limit: str, tell: Tell
) -> None:
    trial = scenes("postgresql").trial()
    limit_sessions(trial, **{limit: "2s"})
    running = trial.start(Fault("wait", name=LOADED), "flow")
    running.wait_until_reached()
    with other_session(trial) as other:
        other.execute("select * from penstock_intervals for update")
        running.go_on()
        running.wait_until_at(f"before {GUARD}", 3)  # of the claim, of the publish, and of its second try
    ending = running.wait()

    assert f"due to {limit.replace('_', ' ')}" in ending.failures, ending
    assert ending.state == "Completed", ending
    trial.check_healed()
    tell(f"{limit}: another session holds the interval's row", "postgresql", "healed by its own retries")


@soak
def test_a_publish_that_gives_way_in_a_deadlock_is_tried_again(scenes: Callable[[str], Scene], tell: Tell) -> None:
    trial = scenes("postgresql").trial()
    running = trial.start(Fault("wait", name=f"after {GUARD}", nth=2), "flow")  # the first is the claim's
    running.wait_until_reached()
    with other_session(trial) as other:
        other.execute("set deadlock_timeout = '1h'")  # so it is the run that finds out, and gives way
        other.execute("update penstock_runs set error = error")
        running.go_on()
        other.execute("update penstock_intervals set guard = guard")
    ending = running.wait()

    assert "deadlock detected" in ending.failures, ending
    assert ending.state == "Completed", ending
    trial.check_healed()
    tell("deadlock with another session, in the publish", "postgresql", "healed by its own retries")


@soak
@pytest.mark.parametrize("boundary", [Fault("wait", name=LOADED), Fault("wait", name=f"after {GUARD}", nth=2)])
def test_a_transaction_that_postgres_ends_for_being_idle_is_tried_again(
    scenes: Callable[[str], Scene], boundary: Fault, tell: Tell
) -> None:
    trial = scenes("postgresql").trial()
    limit_sessions(trial, idle_in_transaction_session_timeout="1s")
    running = trial.start(boundary, "flow")
    running.wait_until_reached()
    with other_session(trial) as other:
        other.autocommit = True
        wait_until_nobody_is_idle(other)
    running.go_on()
    ending = running.wait()

    assert "due to idle-in-transaction timeout" in ending.failures, ending
    assert ending.state == "Completed", ending
    trial.check_healed()
    tell(f"idle-in-transaction timeout {boundary.name}", "postgresql", "healed by its own retries")


def wait_until_nobody_is_idle(other: "psycopg.Connection[tuple[object, ...]]") -> None:
    deadline = time.monotonic() + SECONDS
    while other.execute(IDLE).fetchall():
        assert time.monotonic() < deadline, "the session was not ended"
        time.sleep(0.1)
