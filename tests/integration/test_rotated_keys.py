"""A private key that is replaced: what was written under the former one is found as before, and can be rewritten."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from penstock.cli.app import app
from penstock.deployments.doctor.ledger import check_ledger
from penstock.labels.performance import list_judged_runs, read_performance, refresh_performance
from penstock.ledger.quarantine import quarantined_rows
from penstock.privacy.masking import make_masking
from penstock.settings import load_settings
from penstock.spec.yaml_file import load_pipeline
from penstock.upkeep.verify import verify_ledger
from tests.conftest import DIALECTS, view_rows
from tests.driver import Driver
from tests.integration.test_labels import LABELS, NOW, PRIVATE, Shop
from tests.shop import START, Place

FORMER, CURRENT = "the first secret of private keys", "the second secret of private keys"
SPEC = PRIVATE.replace("expectations:\n", "quarantine_limit: 0.5\nexpectations:\n", 1) + LABELS
REFUSED, RELEASED, FORGOTTEN = 3, 4, 9


def command(*words: str) -> str:
    ended = CliRunner().invoke(app, list(words))
    assert ended.exit_code == 0, ended.output
    return ended.output


def change(shop: Shop, statement: str) -> None:
    with shop.place.shop.writing() as connection:
        connection.execute(sa.text(statement))


def run(shop: Shop, *asked: Any) -> list[str]:
    masking = make_masking(shop.pipeline, shop.settings)
    return Driver(shop.pipeline, shop.connect, shop.place.registry, masking).run(NOW, *asked)


def set_keys(shop: Shop, monkeypatch: pytest.MonkeyPatch, current: str, former: str = "") -> None:
    monkeypatch.setenv("PENSTOCK_PRIVATE_KEY", current)
    monkeypatch.setenv("PENSTOCK_PRIVATE_KEY_OLD", former) if former else monkeypatch.delenv(
        "PENSTOCK_PRIVATE_KEY_OLD", raising=False
    )
    shop.settings = load_settings()


@pytest.fixture
def shop(make_place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Shop:
    """A shop with labels, refused and released rows and a forgotten key under a key that is now the former one."""
    dialect = getattr(request, "param", "sqlite")
    monkeypatch.setenv("PENSTOCK_PRIVATE_KEY", FORMER)
    made = Shop(make_place(dialect, dialect, spec=SPEC, days=2, a_day=40))
    change(made, f"update payments set amount = null where payment_id in ({REFUSED}, {RELEASED})")
    assert run(made).count("publish") == 2
    made.report([(key, key % 2, NOW) for key in range(1, 41)])
    made.collect()
    spec = str(made.place.spec)
    command("quarantine", "release", spec, "--key", str(RELEASED), "--yes", "--no-run")
    change(made, f"delete from payments where payment_id = {FORGOTTEN}")
    change(made, f"delete from chargebacks where payment_id = {FORGOTTEN}")
    command("forget", spec, str(FORGOTTEN), "--yes")
    assert run(made).count("publish") == 1  # the interval of the released and of the forgotten row
    set_keys(made, monkeypatch, CURRENT, FORMER)
    return made


def labelled(shop: Shop) -> int:
    refresh_performance(shop.warehouse, shop.question())
    judged = list_judged_runs(shop.warehouse, "card-risk")
    return sum(each.all_rows.labelled for each in read_performance(shop.warehouse, judged))


@pytest.mark.parametrize("shop", DIALECTS, indirect=True)
def test_a_subject_is_found_under_either_key(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = str(shop.place.spec)
    rows = view_rows(shop.warehouse)
    assert len(rows) == len({row[0] for row in rows}) == 78

    assert run(shop).count("publish") == 0  # no interval looks changed
    assert shop.collect().new == 0
    assert labelled(shop) == 38
    explained = json.loads(command("explain", spec, "8", "--json"))
    assert len(explained["labels"]) == 1
    assert len(json.loads(command("explain", spec, str(REFUSED), "--json"))["refusals"]) == 2
    assert len(json.loads(command("explain", spec, str(FORGOTTEN), "--json"))["forgotten_at"]) == 1
    assert run(shop, "restate", START, NOW).count("publish") == 2
    assert view_rows(shop.warehouse) == rows  # the released row passes, and no key is there twice
    command("quarantine", "release", spec, "--key", str(REFUSED), "--yes", "--no-run")
    assert run(shop).count("publish") == 1
    assert {row[0] for row in view_rows(shop.warehouse)} == {*(row[0] for row in rows), REFUSED}
    removed = command("forget", spec, str(REFUSED), "--yes")
    assert re.search(r"penstock_labels\s+1", removed)
    assert re.search(r"penstock_quarantine\s+3", removed)
    assert verify_ledger(shop.warehouse) == ()


def test_without_the_former_key_nothing_of_it_is_found(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    set_keys(shop, monkeypatch, CURRENT)

    assert labelled(shop) == 0
    assert json.loads(command("explain", str(shop.place.spec), str(REFUSED), "--json"))["refusals"] == []


def test_hashes_of_a_version_without_key_ids_are_found(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    with shop.warehouse.writing() as connection:
        for table, column in (("penstock_labels", "key"), ("penstock_quarantine", "key"), ("penstock_releases", "key")):
            name = make_masking(load_pipeline(shop.place.spec), shop.settings).variants[2].key_id
            statement = f"update {table} set {column} = replace({column}, 'hash:{name}:', 'hash:')"
            connection.execute(sa.text(statement))

    assert all(re.search(r'"hash:[0-9a-f]{32}"', row.key) for row in quarantined_rows(shop.warehouse))
    assert labelled(shop) == 38
    assert len(json.loads(command("explain", str(shop.place.spec), str(REFUSED), "--json"))["refusals"]) == 2
    set_keys(shop, monkeypatch, FORMER)
    assert len(json.loads(command("explain", str(shop.place.spec), "8", "--json"))["labels"]) == 1


@pytest.mark.parametrize("shop", DIALECTS, indirect=True)
def test_after_a_rehash_the_former_key_is_needed_only_for_what_is_gone(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = str(shop.place.spec)
    change(shop, f"delete from payments where payment_id = {REFUSED}")
    shop.report([(7000, 1, NOW)])  # of a row that was never scored
    set_keys(shop, monkeypatch, FORMER)
    shop.collect()
    set_keys(shop, monkeypatch, CURRENT, FORMER)

    before = counts("--dry-run", spec)
    after = counts(spec)
    again = counts(spec)

    assert before["penstock_labels"] == (0, 0, 40)
    assert after["penstock_labels"] == (40, 40, 0)
    assert after["penstock_quarantine"][1] == after["penstock_quarantine"][0] > 0
    assert after["penstock_quarantine"][2] > 0  # the row is no longer in the source
    assert after["penstock_releases"] == (1, 1, 0)
    assert after["penstock_forgotten"] == (0, 0, 1)  # the key was not kept
    assert {table: each[1:] for table, each in again.items()} == {table: each[1:] for table, each in after.items()}
    assert "can no longer be found by their keys" in command("ledger", "rehash", spec, "--dry-run")
    assert verify_ledger(shop.warehouse) == ()
    set_keys(shop, monkeypatch, CURRENT)
    assert shop.collect().new == 0
    assert labelled(shop) == 38
    rows = view_rows(shop.warehouse)
    assert run(shop, "restate", START, NOW).count("publish") == 2
    assert view_rows(shop.warehouse) == rows  # the release is under the current key too


def counts(*words: str) -> dict[str, tuple[int, int, int]]:
    """Return by table: rows that were written, and those under the current key and under another one."""
    listed = json.loads(command("ledger", "rehash", "--json", *words))
    return {each["table"]: (each["rehashed"], each["current"], each["former"] + each["other"]) for each in listed}


def test_a_rehash_that_is_killed_in_mid_write_goes_on(shop: Shop) -> None:
    """Killed at each statement that begins a write, and in the middle of the second batch of labels."""
    spec = str(shop.place.spec)
    writes = 0

    def stop(at: int) -> Callable[..., None]:
        def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            nonlocal writes
            if statement.startswith(("UPDATE", "DELETE", "INSERT")):
                writes += 1
                if writes == at:
                    raise KeyboardInterrupt

        return count

    for at in (1, 2, 20, 1, 30, 2, 1):
        writes, watch = 0, stop(at)
        sa.event.listen(sa.Engine, "before_cursor_execute", watch)
        ended = CliRunner().invoke(app, ["ledger", "rehash", spec])
        sa.event.remove(sa.Engine, "before_cursor_execute", watch)
        assert ended.exit_code != 0 or writes < at
        assert verify_ledger(shop.warehouse) == ()
    assert labelled(shop) == 38
    after = counts(spec)
    assert after["penstock_labels"][1:] == (39, 0)
    assert after["penstock_quarantine"][2] == 0
    assert len(shop.stored()) == 39


def test_the_doctor_counts_what_needs_the_former_key(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def said() -> list[str]:
        found = check_ledger(shop.warehouse, shop.settings)
        return [each.what for each in found if "former private key" in each.what]

    assert "rows under the former private key" in said()[0]
    command("ledger", "rehash", str(shop.place.spec))
    assert "1 row under the former private key" in said()[0]  # the record of the forgotten key
    with shop.warehouse.writing() as connection:
        connection.execute(sa.text("delete from penstock_forgotten"))
    assert said() == ["no row is under the former private key: PENSTOCK_PRIVATE_KEY_OLD can go"]
    assert "PENSTOCK_PRIVATE_KEY_OLD can go" in command("ledger", "rehash", str(shop.place.spec))
    set_keys(shop, monkeypatch, CURRENT)
    assert said() == []
