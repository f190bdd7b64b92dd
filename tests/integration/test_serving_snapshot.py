"""A server that holds the rows of the other sources: scores as a run gives them, how they are read, what it refuses."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from starlette.testclient import TestClient

from penstock.access.token_file import TokenFile
from penstock.cli.check.pipeline import check_pipeline
from penstock.cli.opening import connector
from penstock.serving.served_pipeline import ServedPipeline
from penstock.spec.pipeline import Pipeline
from penstock.spec.yaml_file import load_pipeline
from penstock.web.context import WebContext
from tests.driver import SETTINGS
from tests.integration.test_serving import make_served_place
from tests.served import client_of, serve_pipeline
from tests.shop import SPEC, Place, payments
from tests.waiting import wait_until

NOW = datetime(2026, 1, 4, 1, tzinfo=UTC)
CUSTOMERS = 3000
JOINED = SPEC.replace(
    "expectations:",
    """  customers: {kind: sql, connection: shop, table: customers, key: [customer_id]}
  visits: {kind: sql, connection: shop, query: "select customer_id, spent from visits where day < :interval_end"}
features: |
  select p.payment_id, p.amount * coalesce(c.factor, 1.0) as amount, p.items + coalesce(v.visits, 0) as items,
    p.country, p.first, v.spent
  from payments p
  left join customers c on c.customer_id = p.payment_id % 3000
  left join (select customer_id, count(*) as visits, avg(spent) as spent from visits group by 1) v
    on v.customer_id = p.payment_id % 3000
decide: {risk: "score * amount + coalesce(spent, 0.0)"}
serve: {features: snapshot, refresh: 1m}
expectations:
  customers:
    - {type: expect_column_values_to_be_between, column: factor, min_value: 0, severity: warning}""",
).replace("keep: [amount, country]", "keep: [amount, country, spent]")
TABLES = (
    "create table customers (customer_id integer primary key, factor double, note text)",
    f"with recursive n(i) as (select 0 union all select i + 1 from n where i < {CUSTOMERS - 1}) insert into customers "
    "select i, case when i % 500 = 7 then -1.0 else 0.1 + i * 0.0007 end, 'note ' || i from n",
    "create table visits (customer_id integer, day timestamp, spent double)",
    "with recursive n(i) as (select 0 union all select i + 1 from n where i < 4999) insert into visits "
    "select (i * 7) % 3000, '2025-12-01 00:00:00', 0.1 * i from n",
    "insert into visits values (1, '2099-01-01 00:00:00', 1e9)",
)
PATH = "/pipelines/card-risk/score"


def make_place(folder: Path, warehouse: str = "sqlite", source: str = "sqlite") -> Place:
    return make_served_place(folder, warehouse, JOINED, TABLES, source=source)


def serve_snapshot(place: Place, pipeline: Pipeline | None = None, now: datetime = NOW) -> ServedPipeline:
    """Return the pipeline with a snapshot, and with its model."""
    served = serve_pipeline(place, pipeline)
    assert served.scorer is None
    assert served.take_snapshot(lambda: now), served.snapshot_problem
    assert served.take_models(), served.problem
    return served


def rows_of_shop(first: int, end: int) -> list[dict[str, Any]]:
    wanted = ("payment_id", "amount", "items", "country", "first")
    return [{name: row[name] for name in wanted} for row in payments().slice(first, end - first).to_pylist()]


def live_scores(place: Place) -> dict[int, dict[str, float]]:
    with place.warehouse.reading() as connection:
        found = connection.execute(sa.text("select payment_id, score, risk from card_risk_scores"))
        scores = {row[0]: {"score": row[1], "risk": row[2]} for row in found}
    place.warehouse.engine.dispose()
    return scores


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_place(tmp_path_factory.mktemp("held"))


@pytest.fixture(scope="module")
def client(place: Place) -> Iterator[TestClient]:
    with client_of(serve_snapshot(place), poll_seconds=3600) as client:
        yield client


@pytest.mark.parametrize(("warehouse", "source"), [("sqlite", "sqlite"), ("duckdb", "duckdb")])
def test_scores_with_a_snapshot_equal_those_of_the_run_to_the_bit(tmp_path: Path, warehouse: str, source: str) -> None:
    place = make_place(tmp_path, warehouse, source)
    live = live_scores(place)
    served = serve_snapshot(place)
    with client_of(served, poll_seconds=3600) as client:
        for first in range(0, 750, 125):
            rows = rows_of_shop(first, first + 125)
            body = client.post(PATH, json={"rows": rows}).json()
            single = client.post(PATH, json={"rows": rows[:1]}).json()
            assert [each["outputs"] for each in body["rows"]] == [live[row["payment_id"]] for row in rows]
            assert single["rows"] == body["rows"][:1]
    assert len({each["risk"] for each in live.values()}) > 700
    assert served.snapshot is not None
    assert body["snapshot"]["digest"] == served.snapshot.digest
    assert served.snapshot.refused == {"customers": 6, "visits": 0}
    assert served.snapshot.tables["customers"].column_names == ["customer_id", "factor"]
    assert served.snapshot.tables["visits"].num_rows == 5000  # the interval that now is in ends before the last one


def test_a_request_that_brings_rows_of_a_held_source_is_refused(client: TestClient) -> None:
    rows = rows_of_shop(0, 1)
    answer = client.post(PATH, json={"rows": rows, "sources": {"customers": [{"customer_id": 1, "factor": 2.0}]}})
    unknown = client.post(PATH, json={"rows": rows, "sources": {"others": []}})

    assert (answer.status_code, unknown.status_code) == (400, 400)
    assert answer.json()["error"]["what"] == "the server holds the rows of `customers`, and takes none"
    assert unknown.json()["error"]["next"] == "There are: none."
    assert client.post("/invocations", json={"dataframe_records": rows}).status_code == 200
    described = client.get("/openapi.json").json()["paths"][PATH]["post"]["requestBody"]["content"]
    assert described["application/json"]["schema"]["properties"]["sources"]["properties"] == {}


def test_ready_and_metrics_say_what_is_held(client: TestClient) -> None:
    held = client.get("/ready").json()["pipelines"]["card-risk"]["snapshot"]
    text = client.get("/metrics").text

    assert held["rows"] == {"customers": CUSTOMERS - 6, "visits": 5000}
    assert held["left_out"] == {"customers": 6, "visits": 0}
    assert held["problem"] is None
    assert held["bytes"] > 100_000
    assert re.search(r'penstock_snapshot_rows{pipeline="card-risk",source="customers",status="left out"} 6.0', text)
    assert re.search(r'penstock_snapshot_age_seconds{pipeline="card-risk"} \d', text)
    assert 'penstock_snapshot_failed{pipeline="card-risk"} 0.0' in text


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("alter table customers rename to clients", "customers"),
        ("alter table customers rename column factor to weight", "`factor` was float and is gone"),
        ("drop table visits", "visits"),
    ],
)
def test_a_snapshot_that_cannot_be_taken_leaves_the_old_one(tmp_path: Path, statement: str, problem: str) -> None:
    place = make_place(tmp_path)
    served = serve_snapshot(place)
    assert served.snapshot is not None
    before, rows = served.snapshot.digest, rows_of_shop(0, 3)
    with client_of(served, poll_seconds=3600) as client:
        wait_until(lambda: served.snapshot is not None and served.snapshot.taken_at > NOW)  # that of the start
        scored = client.post(PATH, json={"rows": rows}).json()
        with place.shop.writing() as connection:
            connection.execute(sa.text(statement))
        assert not served.take_snapshot(lambda: NOW)
        again = client.post(PATH, json={"rows": rows}).json()
        ready, text = client.get("/ready").json(), client.get("/metrics").text

    assert again["rows"] == scored["rows"]
    assert again["snapshot"]["digest"] == before
    assert ready["ready"]
    assert problem in ready["pipelines"]["card-risk"]["snapshot"]["problem"]
    assert 'penstock_snapshot_failed{pipeline="card-risk"} 1.0' in text


def test_a_new_snapshot_scores_the_requests_after_it(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    served = serve_snapshot(place)
    first = served.ready
    assert first.snapshot is not None
    with place.shop.writing() as connection:
        connection.execute(sa.text("update customers set factor = factor * 2"))

    assert served.take_snapshot(lambda: NOW)
    second = served.ready

    assert second.snapshot is not None
    assert second.snapshot.digest != first.snapshot.digest
    assert first.score_together != second.score_together  # requests of two snapshots are never scored together
    with place.shop.writing() as connection:
        connection.execute(sa.text("update customers set factor = factor / 2"))
    assert served.take_snapshot(lambda: NOW)
    assert served.snapshot is not None
    assert served.snapshot.digest == first.snapshot.digest  # of the same rows


def test_a_critical_expectation_and_a_limit_stop_a_snapshot(place: Place) -> None:
    pipeline = load_pipeline(place.spec)
    assert pipeline.serve is not None
    customers = pipeline.expectations["customers"]
    halting = tuple(each.model_copy(update={"severity": "critical"}) for each in customers)
    critical = {**pipeline.expectations, "customers": halting}
    small = pipeline.serve.model_copy(update={"limit": pipeline.serve.limit.model_copy(update={"snapshot": 20_000})})

    for changed, problem in (
        (pipeline.model_copy(update={"expectations": critical}), "customers: factor column_values_to_be_between"),
        (pipeline.model_copy(update={"serve": small}), "`serve.limit.snapshot` is 20,000"),
    ):
        served = serve_pipeline(place, changed)
        assert not served.take_snapshot(lambda: NOW)
        assert problem in served.snapshot_problem
        assert not served.take_models()
        with client_of(served, poll_seconds=3600) as client:
            answer = client.post(PATH, json={"rows": rows_of_shop(0, 1)})
        assert answer.status_code == 503
        assert problem in answer.json()["error"]["what"]


def test_a_page_waits_before_it_reads_a_failing_snapshot_again(place: Place) -> None:
    pipeline = load_pipeline(place.spec)
    assert pipeline.serve is not None
    small = pipeline.serve.model_copy(update={"limit": pipeline.serve.limit.model_copy(update={"snapshot": 20_000})})
    urls = {"shop": f"sqlite:///{place.folder}/shop.db", "warehouse": f"sqlite:///{place.folder}/warehouse.db"}
    connections = {name: SecretStr(url) for name, url in urls.items()}
    settings = SETTINGS.model_copy(update={"connections": connections, "home": place.folder})
    tokens = TokenFile(place.folder / "tokens.toml")
    context = WebContext(settings, connector(settings), place.registry, tokens, False, ("localhost",), b"key")

    served = context.serve(pipeline.model_copy(update={"serve": small}))
    first, served.snapshot_problem = served.snapshot_problem, "not tried again"
    again = context.serve(pipeline.model_copy(update={"serve": small})).snapshot_problem

    assert "`serve.limit.snapshot` is 20,000" in first
    assert again == "not tried again"


def test_a_check_says_what_a_server_holds(place: Place) -> None:
    urls = {"shop": f"sqlite:///{place.folder}/shop.db", "warehouse": f"sqlite:///{place.folder}/warehouse.db"}
    connections = {name: SecretStr(url) for name, url in urls.items()}
    settings = SETTINGS.model_copy(update={"connections": connections, "home": place.folder})

    results = check_pipeline(str(place.spec), settings).results
    held = "each process holds 2,994 rows of customers, 5,000 rows of visits, 6 of customers left out, "

    assert any(each.what.startswith(held) for each in results if each.subject == "serve"), results


def test_files_are_held_as_a_run_reads_them(tmp_path: Path) -> None:
    factors = tmp_path / "factors.csv"
    factors.write_text("country;factor\nDE;1,5\nFR;0,5\nIT;2,25\nPL;1\n")
    spec = SPEC.replace(
        "expectations:",
        f"""  factors: {{kind: files, path: {factors}, format: csv, key: [country], max_malformed: 0.5}}
features: |
  select p.payment_id, p.amount * f.factor as amount, p.items, p.country, p.first
  from payments p join factors f using (country)
decide: {{risk: "score * amount"}}
serve: {{features: snapshot}}
expectations:""",
    )
    place = make_served_place(tmp_path, spec=spec)
    live, rows = live_scores(place), rows_of_shop(0, 50)
    factors.write_text("country;factor\nDE;1,5\nFR;0,5\nIT;2,25\nPL;1\nXX;much\n")

    served = serve_snapshot(place)
    with client_of(served, poll_seconds=3600) as client:
        answer = client.post(PATH, json={"rows": rows}).json()

    assert served.snapshot is not None
    assert served.snapshot.refused == {"factors": 1}
    assert [each["outputs"] for each in answer["rows"]] == [live[row["payment_id"]] for row in rows]
    factors.unlink()
    assert not served.take_snapshot(lambda: NOW)
    assert "factors.csv" in served.snapshot_problem
