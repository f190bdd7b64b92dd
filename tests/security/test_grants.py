"""The grants of docs/security.md are enough for everything, and no more is asked for."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.database.connections import Database, open_database
from penstock.errors import AccessDenied
from penstock.ledger.migrations import _done
from penstock.ledger.reader import list_runs
from penstock.run.history_table import _ready
from penstock.settings import Settings
from tests.conftest import view_rows
from tests.shop import Place

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "security.md"


@dataclass(frozen=True)
class Granted:
    """A place whose connections are roles with the documented grants, and a reader of the views."""

    place: Place
    owner: Database
    reader: Database
    writer: Database
    analyst: Database

    def run(self, end: str) -> None:
        from penstock.flows.score import score

        _done.clear()  # as in a new process
        _ready.clear()
        state: Any = score(str(self.place.spec), end=end, return_state=True)
        assert state.is_completed(), state.message


def documented(title: str) -> list[str]:
    """The statements of the page's SQL block under a heading."""
    block = re.search(rf"### {title}\n.*?```sql\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert block, title
    return [line for line in block[1].split(";\n") if line.strip()]


def execute(database: Database, *statements: str) -> None:
    with database.writing() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


@pytest.fixture
def granted(make_place: Callable[..., Place], use_settings: Callable[..., Settings], prefect_api: str) -> Granted:
    place = make_place("postgresql", "postgresql", days=2)
    owner = place.warehouse
    roles = ("penstock_reader", "penstock_writer", "penstock_analyst")
    with owner.reading() as connection:
        known = set(connection.execute(sa.text("select rolname from pg_roles")).scalars())
    execute(owner, *(f"create role {role} login" for role in roles if role not in known))
    execute(place.shop, *documented("The source"))  # the roles are the server's: they outlive this test
    execute(owner, *documented("The warehouse"))
    urls = {
        "shop": place.shop.url.set(username="penstock_reader"),
        "warehouse": owner.url.set(username="penstock_writer"),
        "views": owner.url.set(username="penstock_analyst"),
    }
    settings = use_settings(**{name: url.render_as_string(hide_password=False) for name, url in urls.items()})
    return Granted(place, owner, *(open_database(settings, name) for name in urls))


def test_a_pipeline_runs_with_the_documented_grants_and_later_without_create(granted: Granted) -> None:
    granted.run("2026-01-02")
    execute(granted.owner, *documented("After the first run"))
    granted.run("2026-01-03")

    assert {run.state for run in list_runs(granted.writer)} == {"published"}
    assert len(view_rows(granted.analyst, "scoring.card_risk_scores")) == 500


def test_a_role_can_do_no_more_than_its_part(granted: Granted) -> None:
    granted.run("2026-01-02")
    execute(granted.owner, *documented("After the first run"))

    for database, statement in (
        (granted.reader, "insert into payments (payment_id) values (0)"),
        (granted.reader, "create table mine (a int)"),
        (granted.analyst, "select * from scoring.card_risk_scores__history"),
        (granted.analyst, "select * from scoring.penstock_runs"),
        (granted.analyst, "select * from scoring.penstock_quarantine"),
        (granted.analyst, "delete from scoring.penstock_runs"),
        (granted.writer, "create table public.mine (a int)"),
        (granted.writer, "create table scoring.mine (a int)"),
    ):
        with pytest.raises(AccessDenied, match="permission denied"):
            execute(database, statement)


def test_the_writer_cannot_touch_the_source(granted: Granted) -> None:
    url = granted.place.shop.url.set(username="penstock_writer").render_as_string(hide_password=False)
    writer_at_source = open_database(Settings(connections={"shop": url}), "shop")

    with pytest.raises(AccessDenied, match="permission denied"):
        execute(writer_at_source, "select * from public.payments")


def test_a_missing_grant_is_told_with_what_to_do(granted: Granted) -> None:
    from penstock.flows.score import score

    execute(granted.place.shop, "revoke select on payments from penstock_reader")

    state: Any = score(str(granted.place.spec), end=datetime(2026, 1, 2, tzinfo=UTC), return_state=True)

    assert "permission denied for table payments" in state.message
    assert "Have the missing grant added" in state.message
