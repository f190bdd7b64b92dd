"""The queries of a page share one connection."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from penstock.database.connections import Database, open_database
from penstock.settings import Settings
from tests.conftest import DIALECTS


@pytest.fixture(params=DIALECTS)
def database(
    request: pytest.FixtureRequest,
    use_settings: Callable[..., Settings],
    database_url: Callable[[str, str], str],
) -> Database:
    opened = open_database(use_settings(shop=database_url(request.param, "shop")), "shop")
    with opened.writing() as connection:
        connection.execute(sa.text("create table counted (number integer)"))
    return opened


@contextmanager
def counted_connections(database: Database) -> Iterator[list[None]]:
    """Count how often a connection is taken from the pool."""
    taken: list[None] = []

    def take(*_: object) -> None:
        taken.append(None)

    sa.event.listen(database.engine, "checkout", take)
    yield taken
    sa.event.remove(database.engine, "checkout", take)


def count(database: Database) -> int:
    with database.reading() as connection:
        return int(connection.execute(sa.text("select count(*) from counted")).scalar_one())


def test_reads_together_take_one_connection_and_other_reads_one_each(database: Database) -> None:
    with counted_connections(database) as taken:
        with database.reading_together():
            assert [count(database) for _ in range(5)] == [0] * 5
        assert len(taken) == 1
        assert [count(database), count(database)] == [0, 0]
        assert len(taken) == 3


def test_another_thread_reads_with_its_own_connection(database: Database) -> None:
    with counted_connections(database) as taken, database.reading_together():
        thread = threading.Thread(target=count, args=(database,))
        thread.start()
        thread.join()

        assert len(taken) == 2
