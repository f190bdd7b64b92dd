"""No secret leaves the settings: what a failing run leaves behind, anywhere, does not hold the password.

Every password holds CANARY: letters and digits, so no encoding hides it from the search.
"""

import logging
import os
import pickle
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pyarrow as pa
import pytest
import sqlalchemy as sa
from prefect.client.schemas.objects import State
from typer.testing import CliRunner

from penstock.cli.app import app
from penstock.database.bulk import read
from penstock.database.connections import Database, open_database
from penstock.database.driver_errors import hide_secrets
from penstock.errors import AccessDenied, DatabaseUnavailable, PenstockError, SettingsError
from penstock.settings import Settings
from tests.shop import SPEC, Place

CANARY = "CANARY7f3a9e"
PASSWORDS = (f"plain{CANARY}", f"a b+{CANARY}%41&é/?#:@'\"\\=", f"%2F{CANARY}%", f"{CANARY}Ω💧")
MISWRITTEN = (
    f"postgresql://u:p@{CANARY}@127.0.0.1/db",
    f"postgresql://u:p@w:{CANARY}@127.0.0.1/db",
    f"postgresql://u:{CANARY}@127.0.0.1:54a32/db",
    f"postgresql//u:{CANARY}@127.0.0.1/db",
    f"nothing://u:{CANARY}@127.0.0.1/db",
    f"postgresql+{CANARY}",
)


@dataclass(frozen=True)
class Locked:
    """A Postgres that asks some roles for their password."""

    server: Any

    def url(self, password: str, right: bool = False) -> str:
        """Make a role and return its URL on the database `postgres`; with another password unless `right`."""
        role, stored = f"r{os.urandom(4).hex()}", password if right else "another"
        literal = stored.replace("'", "''")
        self.server.psql(f"create role {role} login in role penstock_locked password '{literal}';")
        socket = sa.make_url(self.server.get_uri()).query["host"]
        return f"postgresql://{role}:{quote(password, safe='')}@/postgres?host={socket}"


@pytest.fixture(scope="session")
def locked(postgres: Any) -> Locked:
    hba = Path(postgres.pgdata) / "pg_hba.conf"
    hba.write_text("local all +penstock_locked scram-sha-256\n" + hba.read_text())
    postgres.psql("create role penstock_locked; select pg_reload_conf();")
    return Locked(postgres)


def assert_hidden(where: str, content: str | bytes) -> None:
    data = content if isinstance(content, bytes) else content.encode()
    at = data.find(CANARY.encode())
    assert at < 0, f"{where} holds the secret: {data[max(0, at - 200) : at + 100]!r}"


def told_by_prefect(api: str) -> dict[str, str]:
    """Ask a Prefect server for all that it shows."""
    kinds = ("flow_runs", "task_runs", "logs", "artifacts", "deployments", "flows", "variables", "block_documents")
    with httpx.Client(base_url=api, timeout=30) as client:
        kinds = (*kinds, "events", "work_pools", "automations")
        return {kind: client.post(f"/{kind}/filter", json={}).raise_for_status().text for kind in kinds}


def ledger_text(database: Database) -> str:
    with database.reading() as connection:
        names = sa.inspect(connection).get_table_names()
        return repr([connection.execute(sa.select(sa.text("*")).select_from(sa.table(n))).all() for n in names])


@dataclass(frozen=True)
class Search:
    """Looks for the secret wherever a run writes."""

    api: str
    server: Path
    log: pytest.LogCaptureFixture

    def through_error(self, error: BaseException) -> None:
        assert_hidden("the exception's text", str(error))
        assert_hidden("the exception's repr", repr(error))
        assert_hidden("the exception's bytes", pickle.dumps(error))
        assert_hidden("the traceback", "".join(traceback.format_exception(error)))

    def through_run(self, state: State[Any], place: Place) -> None:
        assert_hidden("the state", repr(state))
        assert_hidden("the log", self.log.text)
        assert_hidden("the ledger", ledger_text(place.warehouse))
        self._wait_for_logs(state)
        for kind, text in told_by_prefect(self.api).items():
            assert_hidden(f"Prefect's {kind}", text)
        folders = (self.server, place.folder / ".penstock")
        at_rest = {str(file): file.read_bytes() for folder in folders for file in folder.rglob("*") if file.is_file()}
        assert any(b"card-risk" in content for content in at_rest.values()), "the search does not see the run"
        for file, content in at_rest.items():
            assert_hidden(file, content)

    def _wait_for_logs(self, state: State[Any]) -> None:
        """Wait until the server has written down how the flow run ended."""
        wanted = {"logs": {"flow_run_id": {"any_": [str(state.state_details.flow_run_id)]}}, "limit": 200}
        until = time.monotonic() + 20
        while "Finished in state" not in httpx.post(f"{self.api}/logs/filter", json=wanted).text:
            assert time.monotonic() < until
            time.sleep(0.3)


@pytest.fixture
def search(prefect_api: str, tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture) -> Search:
    caplog.set_level(logging.DEBUG)
    return Search(prefect_api, tmp_path_factory.getbasetemp() / "prefect0" / "prefect", caplog)


def fail_in_flow(place: Place) -> State[Any]:
    from penstock.flows.score import score

    state: State[Any] = score(str(place.spec), end="2026-01-02", return_state=True)
    assert state.is_failed()
    return state


@pytest.mark.parametrize("password", PASSWORDS)
def test_a_password_of_any_characters_opens_the_database_by_both_drivers(
    password: str, use_settings: Callable[..., Settings], locked: Locked
) -> None:
    database = open_database(use_settings(shop=locked.url(password, right=True)), "shop")

    with database.reading() as connection:
        assert connection.execute(sa.text("select 1")).scalar() == 1
    assert read(database, sa.select(sa.literal(1).label("one"))) == pa.table({"one": pa.array([1], pa.int64())})


@pytest.mark.parametrize("password", PASSWORDS)
def test_a_password_that_is_refused_stands_in_no_error(
    password: str, use_settings: Callable[..., Settings], locked: Locked, search: Search
) -> None:
    database = open_database(use_settings(shop=locked.url(password)), "shop")

    with pytest.raises(AccessDenied) as first, database.reading():
        pass
    with pytest.raises(PenstockError) as second:
        read(database, sa.select(sa.literal(1)))

    search.through_error(first.value)
    search.through_error(second.value)
    assert_hidden("the log", search.log.text)


def test_a_run_whose_password_is_refused_tells_it_nowhere(
    make_place: Callable[..., Place], use_settings: Callable[..., Settings], locked: Locked, search: Search
) -> None:
    place = make_place(days=1)
    use_settings(shop=locked.url(PASSWORDS[1]))

    state = fail_in_flow(place)

    assert "connection `shop` was refused" in str(state.message)
    search.through_run(state, place)


def test_a_run_whose_statement_fails_tells_the_password_nowhere(
    make_place: Callable[..., Place], use_settings: Callable[..., Settings], locked: Locked, search: Search
) -> None:
    place = make_place(days=1)
    place.spec.write_text(SPEC.replace("table: payments", "query: select 1 / 0 as payment_id, now() as created_at", 1))
    use_settings(shop=locked.url(PASSWORDS[1], right=True))

    state = fail_in_flow(place)

    search.through_run(state, place)


def test_a_run_whose_secret_block_holds_a_wrong_password_tells_it_nowhere(
    make_place: Callable[..., Place], use_settings: Callable[..., Settings], locked: Locked, search: Search
) -> None:
    from prefect.blocks.system import Secret

    place = make_place(days=1)
    Secret(value=locked.url(PASSWORDS[1])).save("locked-url", overwrite=True)
    use_settings(shop="block:secret/locked-url")

    state = fail_in_flow(place)

    assert "connection `shop` was refused" in str(state.message)
    search.through_run(state, place)


def test_a_block_that_is_not_there_is_told_by_its_name(use_settings: Callable[..., Settings], prefect_api: str) -> None:
    from penstock.tasks.process_resources import connect

    use_settings(shop="block:secret/no-such-block")

    with pytest.raises(SettingsError, match="no Prefect block `secret/no-such-block`"):
        connect("shop")


@pytest.mark.parametrize("driver", ["psycopg", "adbc"])
def test_a_host_that_cannot_be_reached_is_told_without_the_password(
    driver: str, use_settings: Callable[..., Settings], search: Search
) -> None:
    url = f"postgresql://u:{quote(PASSWORDS[1], safe='')}@127.0.0.1:1/db?sslpassword={CANARY}"
    database = open_database(use_settings(shop=url), "shop")
    reach = {"adbc": lambda: read(database, sa.select(sa.literal(1))), "psycopg": database.reading().__enter__}

    with pytest.raises(DatabaseUnavailable) as refused:
        reach[driver]()

    search.through_error(refused.value)


@pytest.mark.parametrize("url", MISWRITTEN)
def test_a_url_that_is_cut_at_the_wrong_place_is_refused_without_its_parts(
    url: str, use_settings: Callable[..., Settings], search: Search
) -> None:
    with pytest.raises(SettingsError) as refused:
        open_database(use_settings(shop=url), "shop")

    assert "PENSTOCK_CONNECTIONS__SHOP" in str(refused.value)
    search.through_error(refused.value)


def test_connections_that_are_no_json_are_refused_without_their_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_CONNECTIONS", f'{{"shop": "postgresql://u:{CANARY}@h/db"')

    result = CliRunner().invoke(app, ["runs"])

    assert result.exit_code == 2
    assert "PENSTOCK_CONNECTIONS" in result.output
    assert_hidden("the output", result.output)


@pytest.mark.parametrize("how", ["refused", "miswritten", "unreachable"])
def test_no_command_prints_the_password(
    how: str,
    make_place: Callable[..., Place],
    use_settings: Callable[..., Settings],
    locked: Locked,
    search: Search,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = make_place(days=1)
    urls = {"miswritten": MISWRITTEN[0], "unreachable": f"postgresql://u:{CANARY}@127.0.0.1:1/db"}
    use_settings(shop=urls.get(how) or locked.url(PASSWORDS[1]))
    (place.folder / "pipelines").mkdir()
    spec = place.spec.rename(place.folder / "pipelines" / place.spec.name)
    monkeypatch.setenv("PENSTOCK_PIPELINES", str(spec.parent))
    monkeypatch.setenv("PENSTOCK_DEBUG", "1")

    for command in (
        "check --json",
        "plan card-risk --json",
        "doctor --json",
        "deploy --json",
        "run card-risk --verbose",
    ):
        result = CliRunner().invoke(app, command.split())
        assert_hidden(f"penstock {command}", result.output)
        if result.exception is not None:
            assert_hidden(f"penstock {command}", "".join(traceback.format_exception(result.exception)))
    assert_hidden("the log", search.log.text)


def test_a_secret_is_hidden_however_it_is_spelled() -> None:
    password = PASSWORDS[1]
    url = sa.make_url("postgresql://u@h/db").set(password=password, query={"sslpassword": "other secret"})
    spelled = [password, quote(password), quote(password, safe=""), url.render_as_string(hide_password=False)]

    told = hide_secrets(" | ".join([*spelled, "other secret", "other%20secret", "other+secret"]), url)

    assert_hidden("the text", told)
    assert "secret" not in told
