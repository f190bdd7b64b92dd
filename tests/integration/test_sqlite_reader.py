"""Large reads of SQLite in a process of its own give what Python's driver gives, to the bit, and survive its death."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.database import bulk, sqlite_reader
from penstock.database.connections import Database, close_engines
from penstock.database.dialects import find_dialect
from penstock.errors import DatabaseLocked, DatabaseUnavailable, PenstockError, QueryFailed
from tests.waiting import is_alive

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the other process is used on Linux only")
MANY = sqlite_reader.LARGE + 1
"""A number of rows for which a read goes to the other process."""


def opened(file: Path, **query: str) -> Database:
    url = sa.URL.create("sqlite", database=str(file), query=query)
    return Database("shop", find_dialect("sqlite").make_engine(url, 0))


def select_all(database: Database, table: str = "t") -> sa.Select[Any]:
    with database.engine.connect() as connection:
        names = [row.name for row in connection.exec_driver_sql(f"pragma table_xinfo({table})")]
    return sa.select(*(sa.column(name) for name in names)).select_from(sa.table(table))


def read_both(database: Database, statement: sa.Select[Any]) -> tuple[pa.Table | None, pa.Table]:
    """Read in the other process, or None if it declines, and by Python's driver."""
    with database.engine.connect() as connection:
        reference = bulk._generic_fetch(connection, statement)
    with database.engine.connect() as connection:
        apart = sqlite_reader.read_apart("shop", connection, statement)
    return None if apart is None else apart.rename_columns(reference.column_names), reference


def assert_same(apart: pa.Table | None, reference: pa.Table) -> None:
    assert apart is not None
    assert apart.schema == reference.schema
    assert repr(apart.to_pylist()) == repr(reference.to_pylist())  # -0.0 is not 0.0 here


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Callable[..., Database]]:
    """Make a file from SQL statements."""

    def make(*statements: str, file: str = "shop.db", **query: str) -> Database:
        with sqlite3.connect(tmp_path / file) as connection:
            for statement in statements:
                connection.execute(statement)
        connection.close()
        return opened(tmp_path / file, **query)

    yield make
    close_engines()


DECLARED = ("", "integer", "bigint", "real", "double precision", "text", "varchar(3)", "numeric", "decimal(10,2)")
DECLARED += ("boolean", "date", "timestamp", "blob")
INTEGERS = st.one_of(
    st.integers(-9, 9), st.integers(-(2**63), 2**63 - 1), st.sampled_from([2**53, 2**53 + 1, -(2**53)])
)
FLOATS = st.one_of(st.floats(allow_nan=True), st.sampled_from([1.5, 2.0, -0.0, 1e300, float(2**53), 9e15, 1e16]))
TEXTS = st.one_of(
    st.text(st.characters(blacklist_categories=["Cs"]), max_size=6),
    st.sampled_from(
        ["1", "1.5", "1.500000e+00", "inf", "2026-01-01", "2026-01-01 10:00:00+02:00", "\x00a", "true", ""]
    ),
)
VALUES = (INTEGERS, FLOATS, TEXTS, st.binary(max_size=4))
COLUMN = st.one_of(
    *(st.lists(st.one_of(st.none(), kind), min_size=6, max_size=6) for kind in VALUES),
    st.lists(st.one_of(st.none(), INTEGERS, FLOATS), min_size=6, max_size=6),
    st.lists(st.one_of(st.none(), INTEGERS, TEXTS), min_size=6, max_size=6),
    st.lists(st.one_of(st.none(), FLOATS, TEXTS), min_size=6, max_size=6),
    st.lists(st.one_of(st.none(), *VALUES), min_size=6, max_size=6),
    st.just([None] * 6),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(DECLARED), COLUMN), min_size=1, max_size=4), st.integers(0, 6))
def test_random_tables_are_equal_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory, columns: list[tuple[str, list[Any]]], rows: int
) -> None:
    file = tmp_path_factory.mktemp("shop") / "shop.db"
    with sqlite3.connect(file) as connection:
        connection.execute(f"create table t ({', '.join(f'c{i} {kind}' for i, (kind, _) in enumerate(columns))})")
        values = list(zip(*(column for _, column in columns), strict=True))[:rows]
        connection.executemany(f"insert into t values ({', '.join('?' * len(columns))})", values)
    connection.close()
    database = opened(file)

    apart, reference = read_both(database, select_all(database))

    if apart is not None:
        assert_same(apart, reference)


@pytest.mark.parametrize(
    "values",
    [
        [1, 2, None],
        [None, None, None],
        [],
        [1.5, float("inf"), float("-inf"), -0.0],
        [1, 2.5],
        [2**63 - 1, -(2**63), 2**53 + 1],
        [1e300, 2.0**60, 1.5],
        ["a", "ü", "", None, "x\x00y", "\U0001f600"],
        ["a", 1, -5, None],
        [7, "a"],
        ["1.500000e+00", "inf"],
        [b"\xff\x00", b"", None],
        ["2026-01-01 00:00:00.000000", "2026-01-01T10:00:00Z"],
    ],
)
def test_the_other_process_reads_what_it_must_not_decline(shop: Callable[..., Database], values: list[Any]) -> None:
    database = shop("create table t (c)")
    with database.writing() as connection:
        for value in values:
            connection.exec_driver_sql("insert into t values (?)", (value,))

    assert_same(*read_both(database, select_all(database)))


@pytest.mark.parametrize(
    "values",
    [["a", 1.5], [1.5, "a"], [2**53 + 1, 1.5], [1.5, -(2**53) - 1], [b"a", "a"], ["a", b"a"], [1, b"a"], [2.5, b"a"]],
)
def test_it_declines_storage_classes_that_the_driver_mixes(shop: Callable[..., Database], values: list[Any]) -> None:
    database = shop("create table t (c)")
    with database.writing() as connection:
        for value in values:
            connection.exec_driver_sql("insert into t values (?)", (value,))

    apart, reference = read_both(database, select_all(database))

    assert apart is None
    table = bulk.read(database, select_all(database), rows=MANY)
    assert table == bulk.read(database, select_all(database))
    assert table.num_rows == reference.num_rows


@pytest.mark.parametrize("late", ["1.5", "'text'", "x'00ff'"])
def test_values_after_a_million_nulls_have_their_own_type(shop: Callable[..., Database], late: str) -> None:
    database = shop(
        "create table t (c)",
        "with recursive n (i) as (select 1 union all select i + 1 from n where i < 1048600) insert into t select null "
        "from n",
        f"insert into t values ({late})",
    )

    apart, reference = read_both(database, select_all(database))

    assert apart == reference
    assert apart is not None
    assert apart.column(0).num_chunks == 1


def test_invalid_utf8_is_the_error_of_pythons_driver(shop: Callable[..., Database]) -> None:
    database = shop("create table t (c text)", "insert into t values (cast(x'ff41' as text))")

    with pytest.raises(QueryFailed, match="Could not decode to UTF-8") as failed:
        bulk.read(database, select_all(database), rows=MANY)

    with pytest.raises(QueryFailed) as before:
        bulk.read(database, select_all(database))
    assert str(failed.value) == str(before.value)


@pytest.mark.parametrize("mode", ["delete", "wal", "truncate", "persist"])
def test_each_journal_mode_is_read(shop: Callable[..., Database], mode: str) -> None:
    database = shop(f"pragma journal_mode = {mode}", "create table t (c)", "insert into t values (1), (2)")

    assert_same(*read_both(database, select_all(database)))


def test_rows_that_a_writer_has_open_are_not_read(shop: Callable[..., Database]) -> None:
    database = shop("pragma journal_mode = wal", "create table t (c)", "insert into t values (1)")
    with database.writing() as connection:
        connection.exec_driver_sql("insert into t values (2)")
        apart, _ = read_both(database, select_all(database))

    assert apart is not None
    assert apart.num_rows == 1


def test_names_of_files_and_columns_may_be_odd(shop: Callable[..., Database]) -> None:
    database = shop(
        'create table t ("a.b", "c d", "e""f", "%g", "ü?")', "insert into t values (1,2,3,4,5)", file="a ?#%41ü.db"
    )
    names = ["a.b", "c d", 'e"f', "%g", "ü?"]
    statement = sa.select(*(sa.column(sa.quoted_name(name, quote=True)) for name in names)).select_from(sa.table("t"))

    assert_same(*read_both(database, statement))


def test_parameters_views_and_queries_that_compute_nothing(shop: Callable[..., Database]) -> None:
    database = shop(
        "create table t (k integer primary key, c text, f real)",
        "insert into t values (1, 'a', 1.5), (2, 'b', 2.5), (3, null, 3.5)",
        "create view v as select k, c, f from t where f < 3",
    )
    t = sa.table("t", sa.column("k"), sa.column("c"), sa.column("f"))
    conditions = [t.c.k >= 1, t.c.c <= sa.literal("b", sa.Text()), t.c.f > 1.25, t.c.k.in_([1, 2, 3])]
    query = sa.text("select k, f from t where c >= :c").bindparams(c="b").columns(sa.column("k"), sa.column("f"))

    assert_same(*read_both(database, sa.select(*t.c).where(*conditions)))
    assert_same(*read_both(database, select_all(database, "v")))
    assert_same(*read_both(database, sa.select(query.subquery("q"))))


@pytest.mark.parametrize(
    "query",
    [
        "select sum(f) as x from t",
        "select f * 3 as x from t",
        "select cast(c as real) as x from t",
        "select f || '' as x from t",
        "select 0.1 as x from t",
        "select round(f) as x from t",
        "select g as x from t",
        "select name as x from pragma_table_info('t')",
    ],
)
def test_what_two_versions_may_compute_differently_stays_with_pythons_driver(
    shop: Callable[..., Database], query: str
) -> None:
    database = shop(
        "create table t (c text, f real, g real generated always as (f / 3))", "insert into t (c) values ('1')"
    )

    apart, _ = read_both(database, sa.select(sa.text(query.removeprefix("select "))))

    assert apart is None


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///file:{}?uri=true&mode=ro", "sqlite:///{}?detect_types=1"])
def test_other_urls_stay_with_pythons_driver(tmp_path: Path, url: str) -> None:
    sqlite3.connect(tmp_path / "shop.db").close()
    engine = find_dialect("sqlite").make_engine(sa.make_url(url.format(tmp_path / "shop.db")), 0)

    with engine.connect() as connection:
        assert (
            sqlite_reader.read_apart(
                "shop", connection, sa.select(sa.column("name")).select_from(sa.table("sqlite_master"))
            )
            is None
        )


def test_a_relative_path_starts_from_the_working_folder(
    shop: Callable[..., Database], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shop("create table t (c)", "insert into t values (1)", file="one.db")
    (tmp_path / "other").mkdir()
    shop("create table t (c)", "insert into t values (2)", file="other/one.db")
    found = []
    for folder in (tmp_path, tmp_path / "other"):
        monkeypatch.chdir(folder)
        database = opened(Path("one.db"))
        apart, _ = read_both(database, select_all(database))
        assert apart is not None
        found.append(apart["c"].to_pylist())

    assert found == [[1], [2]]


def test_a_large_read_without_a_known_number_of_rows_goes_to_the_other_process(
    shop: Callable[..., Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    database = shop("create table t (a, b)", "insert into t values (1, 2), (3, 4), (5, 6)")
    small = bulk.read(database, select_all(database))
    assert not running()

    monkeypatch.setattr(bulk, "LARGE", 4)
    assert bulk.read(database, select_all(database)) == small
    assert running()


def running() -> int | None:
    """Return the process ID of the reader, if it runs."""
    processes = [reader._process for reader in sqlite_reader._readers]
    return next((process.pid for process in processes if process is not None), None)


class Reading(threading.Thread):
    """A large read in a thread, whose process is stopped before it can answer."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        bulk.read(database, select_all(database), rows=MANY)
        self.database, self.error, self.table = database, Exception("not done"), None
        self.stopped = running()
        assert self.stopped
        os.kill(self.stopped, signal.SIGSTOP)
        self.start()
        time.sleep(0.2)

    def run(self) -> None:
        try:
            self.table = bulk.read(self.database, select_all(self.database), rows=MANY)
        except PenstockError as error:
            self.error = error


@pytest.fixture
def three_rows(shop: Callable[..., Database]) -> Database:
    return shop("create table t (c)", "insert into t values (1), (2), (3)")


def test_a_reader_that_is_killed_is_started_again_and_gives_the_same_rows(three_rows: Database) -> None:
    reading = Reading(three_rows)

    os.kill(reading.stopped, signal.SIGKILL)
    reading.join(30)

    assert reading.table is not None
    assert reading.table["c"].to_pylist() == [1, 2, 3]
    assert running() not in (None, reading.stopped)


def test_a_reader_that_is_killed_again_is_an_error_that_may_pass(three_rows: Database) -> None:
    reading = Reading(three_rows)

    os.kill(reading.stopped, signal.SIGKILL)
    while (second := running()) in (None, reading.stopped):
        time.sleep(0.001)
    os.kill(second, signal.SIGKILL)
    reading.join(30)

    assert isinstance(reading.error, DatabaseUnavailable)
    assert "the process that reads its file was killed twice (signal 9)" in str(reading.error)
    assert bulk.read(three_rows, select_all(three_rows), rows=MANY).num_rows == 3


PARENT = """
import os, sys
import sqlalchemy as sa
sys.path.insert(0, {root!r})
from penstock.database import bulk, sqlite_reader
from penstock.database.connections import Database
from penstock.database.dialects import find_dialect
database = Database("shop", find_dialect("sqlite").make_engine(sa.make_url("sqlite:///{file}"), 0))
t = sa.table("t", sa.column("c"))
bulk.read(database, sa.select(*t.c), rows=10**9)
print(sqlite_reader._readers[0]._process.pid, flush=True)
if {endless}:
    joined = ", ".join(f"t as t{{n}}" for n in range(40))  # 3 ** 40 rows
    bulk.read(database, sa.select(sa.text("t0.c")).select_from(sa.text(joined)), rows=10**9)
sys.stdin.read()
"""


def cpu_seconds(pid: int) -> float:
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13])) / 100


@pytest.mark.parametrize("endless", [False, True], ids=["idle", "in the middle of a read"])
def test_no_reader_is_left_when_its_parent_is_killed(three_rows: Database, tmp_path: Path, endless: bool) -> None:
    code = PARENT.format(root=str(Path(bulk.__file__).parents[2]), file=tmp_path / "shop.db", endless=endless)
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        reader = int(parent.stdout.readline())
        begun = cpu_seconds(reader)
        while endless and cpu_seconds(reader) < begun + 0.5:
            time.sleep(0.05)
        parent.kill()

    until = time.monotonic() + 20
    while is_alive(reader) and time.monotonic() < until:
        time.sleep(0.05)
    assert not is_alive(reader)


def test_a_fork_starts_a_reader_of_its_own(three_rows: Database) -> None:
    bulk.read(three_rows, select_all(three_rows), rows=MANY)
    mine = running()
    told, tell = os.pipe()
    child = os.fork()
    if not child:
        try:
            bulk.read(three_rows, select_all(three_rows), rows=MANY)
            os.write(tell, str(running()).encode())
        finally:
            os._exit(0)
    os.close(tell)
    its = int(os.read(told, 20))
    os.waitpid(child, 0)

    assert its != mine
    assert running() == mine
    assert bulk.read(three_rows, select_all(three_rows), rows=MANY).num_rows == 3


def test_the_engines_end_with_their_reader(three_rows: Database) -> None:
    bulk.read(three_rows, select_all(three_rows), rows=MANY)
    reader = running()
    assert reader

    close_engines()

    assert not is_alive(reader)
    assert bulk.read(three_rows, select_all(three_rows), rows=MANY).num_rows == 3


def test_threads_share_one_reader(three_rows: Database) -> None:
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(bulk.read(three_rows, select_all(three_rows), rows=MANY).num_rows))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [3] * 6
    assert len(sqlite_reader._readers) == 1


def test_a_locked_file_is_the_same_error(shop: Callable[..., Database], tmp_path: Path) -> None:
    database = shop("create table t (c)", timeout="0.1")
    statement = select_all(database)
    writer = sqlite3.connect(tmp_path / "shop.db", isolation_level=None)
    writer.execute("begin exclusive")

    with pytest.raises(DatabaseLocked, match="database is locked"):
        bulk.read(database, statement, rows=MANY)

    writer.close()
    assert bulk.read(database, statement, rows=MANY).num_rows == 0


def test_a_read_holds_no_lock_while_the_other_process_reads(three_rows: Database, tmp_path: Path) -> None:
    """A writer would wait for the lock, and the other process for the writer."""
    reading = Reading(three_rows)

    with sqlite3.connect(tmp_path / "shop.db", timeout=1) as writer:
        writer.execute("insert into t values (4)")
        writer.commit()
    writer.close()
    os.kill(reading.stopped, signal.SIGCONT)
    reading.join(30)

    assert reading.table is not None
    assert reading.table.num_rows == 4


def test_another_plan_is_declined(three_rows: Database) -> None:
    """It might give the rows in another order."""
    with three_rows.engine.connect() as connection:
        request = sqlite_reader._request(connection, select_all(three_rows))
    assert request is not None
    reader = sqlite_reader._own_reader()

    assert reader.read(request) is not None
    assert reader.read(replace(request, plan=("SCAN u",))) is None
    assert running()


def test_a_process_that_cannot_work_leaves_the_reading_to_pythons_driver(
    three_rows: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text("raise SystemExit(3)")
    monkeypatch.setattr(sqlite_reader, "_PROGRAM", tmp_path / "broken.py")
    monkeypatch.setattr(sqlite_reader, "_readers", [])

    assert bulk.read(three_rows, select_all(three_rows), rows=MANY)["c"].to_pylist() == [1, 2, 3]
    assert not running()


def test_a_missing_table_and_a_missing_file_are_the_same_errors(shop: Callable[..., Database], tmp_path: Path) -> None:
    database = shop("create table t (c)")
    gone = sa.select(sa.column("c")).select_from(sa.table("gone"))

    with pytest.raises(QueryFailed, match="no such table: gone"):
        bulk.read(database, gone, rows=MANY)

    (tmp_path / "shop.db").unlink()
    with pytest.raises(DatabaseUnavailable, match="there is no file"):
        bulk.read(database, gone, rows=MANY)
    assert not (tmp_path / "shop.db").exists()


def test_a_file_that_was_replaced_is_read_anew(shop: Callable[..., Database], tmp_path: Path) -> None:
    database = shop("create table t (c)", "insert into t values (1)")
    assert bulk.read(database, select_all(database), rows=MANY)["c"].to_pylist() == [1]
    shop("create table t (c)", "insert into t values (2)", file="new.db")

    (tmp_path / "new.db").replace(tmp_path / "shop.db")

    assert bulk.read(database, select_all(database), rows=MANY)["c"].to_pylist() == [2]


def test_no_process_loads_both_libraries(three_rows: Database) -> None:
    bulk.read(three_rows, select_all(three_rows), rows=MANY)

    other = Path(f"/proc/{running()}/maps").read_text()
    assert "adbc_driver_sqlite" in other
    assert "_sqlite3" not in other
    assert "libsqlite3" not in other
    assert "adbc_driver_sqlite" not in Path("/proc/self/maps").read_text()
