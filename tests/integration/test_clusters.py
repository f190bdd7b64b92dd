"""The same flow in processes, on Dask with two workers and on Ray: what travels, and what a killed worker leaves."""

import pickle
from collections.abc import Iterator
from typing import Any

import pytest

from penstock.ledger.profiles import read_profiles
from penstock.ledger.reader import partitions_of
from penstock.run_types import Receipt
from penstock.tasks import partitions
from penstock.upkeep.verify import verify_ledger
from tests.clusters import PARTITIONS, Shop, dask_cluster, kill_one, open_shop, pool_workers, ray_cluster, ray_workers
from tests.integration.test_reasons import reasons_of
from tests.shop import payments

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_api"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, postgres: Any) -> Iterator[Shop]:
    with (
        pytest.MonkeyPatch.context() as monkeypatch,
        open_shop(tmp_path_factory.mktemp("shop"), postgres, monkeypatch) as shop,
    ):
        yield shop


@pytest.fixture(scope="module")
def dask(shop: Shop) -> Iterator[Any]:
    pytest.importorskip("prefect_dask", reason="the extra `dask` is not installed")
    with dask_cluster() as cluster:
        yield cluster


def test_a_run_on_dask_scores_what_a_run_on_threads_does_and_only_receipts_travel(
    shop: Shop, dask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    travelled: list[Any] = []
    outcome_of = partitions.outcome_of

    def look(future: Any, label: str) -> Any:
        travelled.append(future.wrapped_future.result())
        return outcome_of(future, label)

    monkeypatch.setattr(partitions, "outcome_of", look)
    state = shop.score("on-dask", f"dask:{dask.scheduler_address}", 1)
    monkeypatch.undo()

    assert state.is_completed(), state.message
    assert shop.rows("on-dask") == shop.undisturbed()[:250]
    [run] = shop.runs("on-dask")
    loaded = partitions_of(shop.place.warehouse, run.run_id)
    workers = {part.process for part in loaded}
    assert (len(loaded), len(workers)) == (PARTITIONS, 2)
    assert run.lease_owner not in workers
    receipts = [state.result() for state in travelled]
    assert [type(receipt) for receipt in receipts] == [Receipt] * PARTITIONS
    audited = sum(table.nbytes for receipt in receipts for table in receipt.audit.values())
    assert [{stage: t.column_names for stage, t in r.audit.items()} for r in receipts] == [
        {"scores": ["score"]}
    ] * PARTITIONS  # which the one aggregate expectation asks for
    assert len(pickle.dumps(travelled)) - audited < PARTITIONS * 6_000


@pytest.mark.parametrize("runner", ["processes:2", "dask"])
def test_a_text_file_is_staged_once_for_all_processes_and_its_refused_line_is_kept_once(
    shop: Shop, dask: Any, runner: str
) -> None:
    file = shop.place.folder / "payments.csv"
    table = payments().drop_columns(["updated_at"])
    lines = table.to_pandas().to_csv(index=False).splitlines()
    file.write_text("\n".join([*lines[:100], "7,broken", *lines[100:], ""]))
    name = f"text-on-{runner.partition(':')[0]}"
    address = f"dask:{dask.scheduler_address}" if runner == "dask" else runner

    state = shop.score(name, address, 1, source=f"{{kind: files, path: {file}, format: csv, key: [payment_id]}}")

    assert state.is_completed(), state.message
    assert shop.rows(name) == shop.undisturbed()[:250]
    [run] = shop.runs(name)
    assert (run.rows_extracted, run.rows_quarantined) == (251, 1)
    assert {part.process for part in partitions_of(shop.place.warehouse, run.run_id)} != {run.lease_owner}
    assert list((shop.place.folder / ".penstock/staged").iterdir()) == []


def test_profiles_are_the_same_on_threads_in_processes_and_on_dask(shop: Shop, dask: Any) -> None:
    seen = []
    for runner in ("threads:2", "processes:2", f"dask:{dask.scheduler_address}"):
        name = f"drift-{runner.partition(':')[0]}"
        state = shop.score(name, runner, 1, more="drift: {against: model, least_rows: 100}")
        assert state.is_completed(), state.message
        [run] = shop.runs(name)
        assert run.partitions == PARTITIONS
        profiles = read_profiles(shop.place.warehouse, run.run_id)
        seen.append({column: each.counts for column, each in profiles.items()})
    assert len(seen[0]) == 5
    assert seen[0] == seen[1] == seen[2]


def test_the_same_rows_have_the_same_reasons_on_threads_in_processes_and_on_dask(shop: Shop, dask: Any) -> None:
    seen = []
    for runner in ("threads:2", "processes:2", f"dask:{dask.scheduler_address}"):
        name = f"reasons-{runner.partition(':')[0]}"
        state = shop.score(name, runner, 1, more="reasons: {when: score > 0.3, top: 2, budget: {rows: 40}}")
        assert state.is_completed(), state.message
        [run] = shop.runs(name)
        assert (run.partitions, run.rows_explained) == (PARTITIONS, 40)
        assert run.rows_over_budget
        found = reasons_of(shop.place.warehouse, f"{shop.table(name)}_reasons")
        assert {row["payment_id"] for row in found if row["text"] == "budget"}
        seen.append([{column: value for column, value in row.items() if column != "run_id"} for row in found])
    assert seen[0] == seen[1] == seen[2]
    assert verify_ledger(shop.place.warehouse) == ()


def test_a_run_heals_whose_dask_worker_is_killed_in_a_load(shop: Shop, dask: Any) -> None:
    from distributed import Client

    shop.score("dask-killed", "threads:2", 1)
    with Client(dask.scheduler_address, set_as_default=False) as client:
        pids = list(client.run(_pid).values())
        with shop.holding_up_loads("dask-killed", lambda: kill_one(pids), loads=2):
            state = shop.score("dask-killed", f"dask:{dask.scheduler_address}", 2)

    assert state.is_completed(), state.message
    assert shop.rows("dask-killed") == shop.undisturbed()
    assert shop.stored("dask-killed") == 500
    assert [run.state for run in shop.runs("dask-killed")] == ["published", "published"]


def test_a_run_heals_whose_ray_worker_is_killed_in_a_load(shop: Shop) -> None:
    pytest.importorskip("prefect_ray", reason="the extra `ray` is not installed")
    shop.score("on-ray", "threads:2", 1)
    with ray_cluster() as address, shop.holding_up_loads("on-ray", lambda: kill_one(ray_workers()), loads=2):
        state = shop.score("on-ray", f"ray:{address}", 2)

    assert state.is_completed(), state.message
    assert shop.rows("on-ray") == shop.undisturbed()
    assert shop.stored("on-ray") == 500
    assert [run.state for run in shop.runs("on-ray")] == ["published", "published"]


def test_a_run_fails_whose_own_process_of_many_is_killed_and_the_next_heals(shop: Shop) -> None:
    shop.score("pool-killed", "threads:2", 1)
    with shop.holding_up_loads("pool-killed", lambda: kill_one(pool_workers()), loads=2):
        failed = shop.score("pool-killed", "processes:2", 2)
    before = shop.rows("pool-killed")
    healed = shop.score("pool-killed", "threads:2", 2)

    assert failed.is_failed()
    assert before == shop.undisturbed()[:250]
    assert healed.is_completed(), healed.message
    assert shop.rows("pool-killed") == shop.undisturbed()
    second, lost, _ = shop.runs("pool-killed")
    assert (second.state, lost.state) == ("published", "failed")
    assert "on processes:2 was lost" in lost.error


def _pid(dask_worker: Any) -> int:
    import os

    return os.getpid()
