"""A database that is wrong is named with what helps: real faults of SQLite, DuckDB and Postgres."""

import os
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.database.connections import Database, open_database
from penstock.database.remedies import find_fault
from penstock.errors import (
    AccessDenied,
    DatabaseLocked,
    DatabaseUnavailable,
    DatabaseUnusable,
    PenstockError,
    QueryFailed,
)
from penstock.settings import Settings

NOBODY = 65534
FILE_PATH = "Correct the path in PENSTOCK_CONNECTIONS__WAREHOUSE"
RIGHTS = "Let this user read and write the file and its folder"


@contextmanager
def other_user(folder: Path) -> Iterator[None]:
    """Act as a user without rights."""
    if os.geteuid() != 0:
        pytest.skip("only root can act as another user")
    for each in (folder, *folder.parents):
        if each.stat().st_uid == 0 and each != Path("/") and each.is_relative_to("/tmp"):
            each.chmod(each.stat().st_mode | 0o055)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def refusal(database: Database, statement: str, *, write: bool) -> PenstockError:
    with (
        pytest.raises(PenstockError) as refused,
        database.writing() if write else database.reading() as connection,
    ):
        connection.execute(sa.text(statement))
    database.engine.dispose()
    return refused.value


def make_file(path: Path) -> None:
    """Make a good database, by another process, because DuckDB keeps a file open in the process that has made it."""
    code = f"import {'sqlite3' if path.suffix == '.sqlite' else 'duckdb'} as d; c = d.connect({str(path)!r})"
    code += "; c.execute('create table x (a varchar)'); c.commit(); c.close()"
    subprocess.run([sys.executable, "-c", code], check=True)


def garble(path: Path) -> None:
    path.write_bytes(b"not a database " * 500)


def spoil(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("create table x (a text)")
        connection.executemany("insert into x values (?)", [("y" * 500,)] * 500)
    connection.close()
    content = bytearray(path.read_bytes())
    content[4096:40960] = b"\xff" * (40960 - 4096)
    path.write_bytes(content)


def damage(path: Path) -> None:
    make_file(path)
    content = bytearray(path.read_bytes())
    content[12:20] = (9999).to_bytes(8, "little")
    path.write_bytes(content)


FILES: dict[str, tuple[str, Callable[[Path], Any], str, type[PenstockError], str]] = {
    "sqlite garbage": ("sqlite", garble, "select * from x", DatabaseUnusable, FILE_PATH),
    "duckdb garbage": ("duckdb", garble, "select * from x", DatabaseUnusable, FILE_PATH),
    "duckdb empty": ("duckdb", Path.touch, "select * from x", DatabaseUnusable, FILE_PATH),
    "sqlite damaged": ("sqlite", spoil, "select max(a) from x", DatabaseUnusable, "Restore it from a backup"),
    "sqlite folder": ("sqlite", Path.mkdir, "select * from x", DatabaseUnavailable, "leads to a file"),
    "duckdb folder": ("duckdb", Path.mkdir, "select * from x", DatabaseUnusable, "leads to a folder"),
    "duckdb damaged": ("duckdb", damage, "select * from x", DatabaseUnusable, "Restore it from a backup"),
    "sqlite no table": ("sqlite", make_file, "select * from y", QueryFailed, "Correct the query or the table."),
    "duckdb no table": ("duckdb", make_file, "select * from y", QueryFailed, "Correct the query or the table."),
    "sqlite no ledger table": ("sqlite", make_file, "select * from penstock_runs", QueryFailed, "ledger is missing"),
    "duckdb no ledger table": ("duckdb", make_file, "select * from penstock_runs", QueryFailed, "ledger is missing"),
}


@pytest.mark.parametrize("fault", FILES)
def test_a_file_that_is_wrong_is_named_with_what_helps(
    tmp_path: Path, use_settings: Callable[..., Any], fault: str
) -> None:
    dialect, spoil_file, statement, kind, remedy = FILES[fault]
    file = tmp_path / f"warehouse.{dialect}"
    spoil_file(file)
    database = open_database(use_settings(warehouse=f"{dialect}:///{file}"), "warehouse")

    error = refusal(database, statement, write=False)

    assert type(error) is kind, error
    assert remedy in str(error)


@pytest.mark.parametrize("dialect", ["sqlite", "duckdb"])
def test_a_file_that_this_user_may_not_write_is_named_with_what_helps(
    tmp_path: Path, use_settings: Callable[..., Any], dialect: str
) -> None:
    file = tmp_path / f"warehouse.{dialect}"
    make_file(file)
    file.chmod(0o644)
    database = open_database(use_settings(warehouse=f"{dialect}:///{file}"), "warehouse")

    with other_user(tmp_path):
        error = refusal(database, "insert into x values ('1')", write=True)

    assert isinstance(error, DatabaseUnusable), error
    assert RIGHTS in str(error)


@pytest.mark.parametrize("dialect", ["sqlite", "duckdb"])
def test_a_missing_source_file_is_named_with_what_helps(
    tmp_path: Path, use_settings: Callable[..., Any], dialect: str
) -> None:
    database = open_database(use_settings(shop=f"{dialect}:///{tmp_path}/gone.{dialect}"), "shop")

    with pytest.raises(DatabaseUnavailable, match=r"no file .*gone.*PENSTOCK_CONNECTIONS__SHOP"):
        database.require_file()


def test_a_duckdb_file_that_another_process_has_open_is_named_with_that_process(
    tmp_path: Path, use_settings: Callable[..., Any]
) -> None:
    file = tmp_path / "warehouse.duckdb"
    code = f"import duckdb, time; c = duckdb.connect({str(file)!r}); print('open', flush=True); time.sleep(120)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        try:
            database = open_database(use_settings(warehouse=f"duckdb:///{file}"), "warehouse")
            error = refusal(database, "select 1", write=False)
        finally:
            holder.kill()

    assert isinstance(error, DatabaseLocked)
    assert f"PID {holder.pid}" in str(error)


SERVERS: dict[str, tuple[str, dict[str, Any], str, type[PenstockError], str]] = {
    "no database": ("", {"database": "nope"}, "select 1", AccessDenied, "Correct the database's name"),
    "no role": ("", {"username": "nobody"}, "select 1", AccessDenied, "Correct user and password"),
    "no host": (
        "",
        {"host": "no-such-host.invalid", "query": {}},
        "select 1",
        DatabaseUnavailable,
        "Correct the host in",
    ),
    "no socket": ("", {"query": {"host": "/tmp/nowhere"}}, "select 1", DatabaseUnavailable, "server runs on this"),
    "nothing listens": (
        "",
        {"host": "127.0.0.1", "port": 1, "query": {}},
        "select 1",
        DatabaseUnavailable,
        "Check that the database is running",
    ),
    "no grant": (
        "create role {role} login; create table secret (a int)",
        {"username": "{role}"},
        "select * from secret",
        AccessDenied,
        "Have the missing grant added",
    ),
    "too many": (
        "create role {role} login connection limit 0",
        {"username": "{role}"},
        "select 1",
        DatabaseUnavailable,
        "raise the limit",
    ),
    "no schema": ("", {}, "create table nope.x (a int)", QueryFailed, "Correct `schema`"),
    "no table": ("", {}, "select * from nope", QueryFailed, "Correct the query or the table."),
    "no ledger table": ("", {}, "select * from penstock_runs", QueryFailed, "A table of the ledger is missing"),
    "wrong ledger": (
        "create table penstock_runs (a int)",
        {},
        "select run_id from penstock_runs",
        QueryFailed,
        "`penstock doctor` says what is wrong with the ledger",
    ),
    "read-only": (
        "alter database {database} set default_transaction_read_only = on",
        {},
        "create table y (a int)",
        DatabaseUnusable,
        "Name the primary server",
    ),
}


@pytest.mark.parametrize("fault", SERVERS)
def test_a_server_that_is_wrong_is_named_with_what_helps(
    use_settings: Callable[..., Any], database_url: Callable[[str, str], str], fault: str
) -> None:
    prepare, changed, statement, kind, remedy = SERVERS[fault]
    url = sa.make_url(database_url("postgresql", "warehouse"))
    names = {"role": f"r_{url.database}", "database": str(url.database)}
    if prepare:
        good = open_database(use_settings(good=url.render_as_string(hide_password=False)), "good")
        with good.writing() as connection:
            for each in prepare.format(**names).split("; "):
                connection.execute(sa.text(each))
        good.engine.dispose()
    parts = {k: v.format(**names) if isinstance(v, str) else v for k, v in changed.items()}
    text = url.set(**parts).render_as_string(hide_password=False)
    database = open_database(use_settings(warehouse=text), "warehouse")

    error = refusal(database, statement, write=False)

    assert type(error) is kind, error
    assert remedy in str(error)


def test_a_server_without_encryption_is_named_with_what_helps(use_settings: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        threading.Thread(target=refuse_encryption, args=(listening,), daemon=True).start()
        url = f"postgresql://user:secret@127.0.0.1:{port}/db?sslmode=require"
        error = refusal(open_database(use_settings(warehouse=url), "warehouse"), "select 1", write=False)

    assert isinstance(error, DatabaseUnusable), error
    assert "Set `sslmode`" in str(error)


def refuse_encryption(listening: socket.socket) -> None:
    """Answer as a Postgres without encryption does."""
    connection, _ = listening.accept()
    with connection:
        connection.recv(8)
        connection.sendall(b"N")


def test_the_words_of_duckdb_for_a_file_of_another_version_are_known() -> None:
    said = (
        "Trying to read a database file with storage version number 99, but we can only read storage versions between"
    )

    fault = find_fault(said)

    assert fault is not None
    assert "Install the DuckDB version" in fault.remedy


def test_the_memory_limit_of_a_duckdb_url_holds_and_is_named_when_it_is_reached(tmp_path: Path) -> None:
    url = f"duckdb:///{tmp_path / 'small.duckdb'}?memory_limit=20MB"
    database = open_database(Settings(connections={"warehouse": url}), "warehouse")
    with database.writing() as connection:
        limit = connection.execute(sa.text("select current_setting('memory_limit')")).scalar()

    much = sa.text("select length(string_agg(cast(range as varchar), ',')) from range(20000000)")
    with pytest.raises(DatabaseUnusable) as refused, database.writing() as connection:
        connection.execute(much).all()
    database.engine.dispose()

    assert limit == "19.0 MiB"
    assert "Raise it in PENSTOCK_CONNECTIONS__WAREHOUSE, as in `?memory_limit=4GB`" in str(refused.value)
