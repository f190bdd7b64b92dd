"""A files source in an object store whose answers fail at any request of a run: all rows are published, or none."""

import io
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from penstock.ledger.reader import list_runs
from penstock.object_stores import access, write_bytes
from penstock.spec.yaml_file import load_pipeline
from penstock.tasks.process_resources import connect
from tests.conftest import view_rows
from tests.driver import Driver
from tests.servers.faulty import EMPTY_LISTING, Fault, FaultyProxy
from tests.servers.s3 import S3Server
from tests.shop import START, Place, payments, train_model

pytest.importorskip("obstore", reason="obstore is not installed (the extra `object-stores`)")
DAY = timedelta(days=1)
ALWAYS = float("inf")
SPEC = """
name: card-risk
interval: {{column: created_at, grain: 1d, start: 2026-01-01}}
sources:
  payments: {{kind: files, path: "{root}/{{interval_start:%Y-%m-%d}}/*.{kind}", format: {kind}, key: [payment_id]}}
model: card-risk@champion
destination: {{connection: warehouse, table: card_risk_scores, keep: [amount, country]}}
partition_rows: 60
"""
ROWS = payments(days=1, a_day=150)
Run = Callable[[], list[str]]
Put = Callable[[pa.Table], None]
MakeRun = Callable[[str], tuple[Place, Run, Put]]
GONE = b"<Error><Code>NoSuchKey</Code></Error>"
FAULTS = {
    "busy for a while": Fault(status=503),
    "busy": Fault(status=503, times=ALWAYS),
    "access taken away": Fault(status=403, times=ALWAYS),
    "removed": Fault(path="/b.", status=404, body=GONE, times=ALWAYS),
    "cut": Fault(methods=("GET",), cut_after=10, times=ALWAYS),
    "cut once": Fault(methods=("GET",), cut_after=10),
    "no answer": Fault(lose_answer=True, times=ALWAYS),
    "an empty list": Fault(path="list-type", status=200, body=EMPTY_LISTING),
}


@pytest.fixture
def proxy(s3_server: S3Server, faulty_s3: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    for variable, value in s3_server.environment(endpoint=faulty_s3.url).items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(access, "_RETRIES", 1)  # what stays is waited for no longer than a test may take
    yield faulty_s3
    access._open.cache_clear()


def content_of(rows: pa.Table, kind: str) -> bytes:
    written = io.BytesIO()
    if kind == "parquet":
        pq.write_table(rows, written, row_group_size=20)
    else:
        pyarrow.csv.write_csv(rows, written)
    return written.getvalue()


@pytest.fixture
def make_run(proxy: FaultyProxy, make_place: Callable[..., Place]) -> MakeRun:
    """Put two files of a day into a bucket. Return the place, a run that scores the day anew, and a way to replace."""

    def make(kind: str) -> tuple[Place, Run, Put]:
        root = f"s3://bucket-{uuid.uuid4().hex[:12]}/lake"
        place = make_place(spec=SPEC.format(root=root, kind=kind), days=1, a_day=10)

        def put(rows: pa.Table) -> None:
            for name, part in (("a", rows.slice(0, 70)), ("b", rows.slice(70))):
                write_bytes(f"{root}/2026-01-01/{name}.{kind}", content_of(part, kind))

        driver = Driver(load_pipeline(place.spec), connect, place.registry)
        return place, lambda: driver.run(START + DAY, "restate", START, START + DAY), put

    return make


@pytest.mark.parametrize("stride", [6, pytest.param(1, marks=pytest.mark.soak)])
@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_fault_at_any_request_of_a_run_publishes_all_rows_or_none(
    make_run: MakeRun, proxy: FaultyProxy, kind: str, stride: int
) -> None:
    place, run, put = make_run(kind)
    put(ROWS)
    run()
    whole = view_rows(place.warehouse)
    assert len(whole) == ROWS.num_rows
    proxy.seen.clear()
    run()
    seen = list(proxy.seen)

    for number, (name, fault) in enumerate(FAULTS.items()):
        for after in range(number % stride, sum(map(fault.fits, seen)), stride):
            proxy.faults = [replace(fault, after=after)]
            steps = run()
            proxy.faults = []
            assert view_rows(place.warehouse) == whole, (name, after)
            if name == "busy for a while":
                assert steps[-1] == "publish", (name, after)
            else:
                state = list_runs(place.warehouse, "card-risk", 1)[0].state
                assert state in ("published", "failed"), (name, after, steps)
                assert state == "published" or re.search(r"failed: (s3://|.*s3://)", steps[-1]), (name, after, steps)
    assert run()[-1] == "publish"
    assert view_rows(place.warehouse) == whole


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_objects_that_are_replaced_at_any_request_of_a_run_are_never_mixed(
    make_run: MakeRun, proxy: FaultyProxy, kind: str
) -> None:
    place, run, put = make_run(kind)
    fewer = ROWS.slice(5, 130)
    put(fewer)
    run()
    after_it = view_rows(place.warehouse)
    put(ROWS)
    proxy.seen.clear()
    run()
    before_it = view_rows(place.warehouse)
    assert (len(before_it), len(after_it)) == (150, 130)

    for after in range(0, len(proxy.seen), 2):
        proxy.faults = [Fault(methods=("GET", "HEAD"), after=after, first=lambda: put(fewer))]
        last = run()[-1]
        proxy.faults = []
        assert view_rows(place.warehouse) in (before_it, after_it), after
        assert last == "publish" or "files changed after the run was planned" in last, (after, last)
        put(ROWS)


@pytest.mark.slow
def test_a_flow_with_its_rows_and_its_model_in_a_busy_store_tries_again_and_publishes(
    make_run: MakeRun, proxy: FaultyProxy, prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from penstock.flows.score import score
    from penstock.tasks.process_resources import settings

    place, _, put = make_run("parquet")
    put(ROWS)
    store = place.spec.read_text().split('path: "')[1].split("/lake")[0] + "/models"
    train_model(store)
    monkeypatch.setenv("PENSTOCK_MODEL_STORE", store)
    settings.cache_clear()
    for path in ("/models/", "/b.parquet"):
        proxy.spoil(Fault(path=path, status=503, after=3, times=3))

    ended = score(str(place.spec), end="2026-01-02", return_state=True)

    assert ended.name == "Completed", ended.message
    assert len(view_rows(place.warehouse)) == ROWS.num_rows
    assert all(fault.times == 0 for fault in proxy.faults)
