"""A Postgres that keeps the connection up and says nothing is listened to for a bounded time."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.database import bulk
from penstock.database.connections import Database, close_engines, open_database
from penstock.database.dialects import base
from penstock.errors import DatabaseUnavailable
from penstock.settings import Settings
from tests.faults.harness.proxy import Harm, Proxy

QUESTION = sa.select(sa.literal(42).label("answer"))


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    monkeypatch.setattr(base, "ANSWER_SECONDS", 1)
    with Proxy() as standing_in_front:
        yield standing_in_front
        close_engines()


@pytest.fixture
def database(proxy: Proxy, postgres: Any) -> Database:
    settings = Settings(connections={"warehouse": proxy.front(postgres.get_uri())}, statement_seconds=3)
    return open_database(settings, "warehouse")


def test_a_statement_that_is_not_answered_is_given_up_and_the_next_one_is_asked_over_a_new_connection(
    proxy: Proxy, database: Database
) -> None:
    proxy.harm = Harm("silence", b"answer")

    with pytest.raises(DatabaseUnavailable, match="no answer for 4 s"), database.writing() as connection:
        connection.execute(QUESTION)
    with database.reading() as connection:
        assert connection.execute(QUESTION).scalar_one() == 42


def test_a_bulk_read_that_is_not_answered_is_given_up_and_the_next_one_is_asked_over_a_new_connection(
    proxy: Proxy, database: Database
) -> None:
    proxy.harm = Harm("silence", b"answer")

    with pytest.raises(DatabaseUnavailable, match="no answer for 4 s"):
        bulk.read(database, QUESTION)
    assert bulk.read(database, QUESTION).to_pylist() == [{"answer": 42}]


def test_a_statement_that_is_answered_late_but_in_time_is_heard(proxy: Proxy, database: Database) -> None:
    proxy.delay = 0.2

    with database.reading() as connection:
        assert connection.execute(QUESTION).scalar_one() == 42
