"""The driver's knowledge of a Postgres is kept between transactions, its connections are not."""

from typing import Any

import pytest
import sqlalchemy as sa

from penstock.database.bulk import read
from penstock.database.connections import Database, open_database
from penstock.settings import Settings
from tests.waiting import wait_until


@pytest.fixture
def database(postgres: Any) -> Database:
    return open_database(Settings(connections={"shop": postgres.get_uri()}), "shop")


def test_a_type_and_a_table_made_after_the_first_read_are_read(database: Database) -> None:
    assert read(database, sa.select(sa.literal(1).label("one"))).to_pylist() == [{"one": 1}]

    with database.writing() as connection:
        connection.exec_driver_sql("drop table if exists moods")
        connection.exec_driver_sql("drop type if exists late_mood")
        connection.exec_driver_sql("create type late_mood as enum ('sad', 'ok')")
        connection.exec_driver_sql("create table moods (id bigint, mood late_mood)")
        connection.exec_driver_sql("insert into moods values (1, 'ok')")
    moods = sa.table("moods", sa.column("id"), sa.column("mood"))

    assert read(database, sa.select(moods.c.id, sa.cast(moods.c.mood, sa.Text).label("mood"))).to_pylist() == [
        {"id": 1, "mood": "ok"}
    ]


def test_a_transaction_leaves_no_session_behind(database: Database) -> None:
    assert read(database, sa.select(sa.literal(1).label("one"))).num_rows == 1

    wait_until(lambda: sessions(database) == 1)  # the one that asks


def sessions(database: Database) -> int:
    asked = sa.text("select count(*) from pg_stat_activity where datname = current_database()")
    with database.reading() as connection:
        return int(connection.execute(asked).scalar_one())
