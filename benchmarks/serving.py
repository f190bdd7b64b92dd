"""Measure `penstock serve`: `python -m benchmarks.serving [--requests N]`.

The CPU seconds of a request, as ratios to an endpoint of the same server that reads the body and answers with a
constant. The endpoints take turns. One row a request, one connection, 100 trees of depth 6 and 20 features.
"""

import argparse
import http.client
import json
import os
import socket
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.database.connections import Connector, open_database
from penstock.models.registry import Registry
from penstock.models.training import train
from penstock.privacy.masking import NO_MASKING
from penstock.run.partition_options import PartitionOptions
from penstock.serving.application import ServingApplication
from penstock.serving.guard import LOCAL_HOSTS, Guard
from penstock.serving.lookups import Lookups
from penstock.serving.served_pipeline import ServedPipeline
from penstock.serving.server import Address, run_server
from penstock.settings import Settings
from penstock.spec.pipeline import Pipeline

FEATURES = [f"f{number}" for number in range(20)]
_QUERY = f"select id, {', '.join(f'{name} * 2 + 1 as {name}' for name in FEATURES)} from rows"
_EXPECTED = {"rows": [{"type": "expect_column_values_to_not_be_null", "column": "f0", "severity": "warning"}]}
BODY = json.dumps({"rows": [{"id": 1, **{name: 0.25 * at for at, name in enumerate(FEATURES)}}]}).encode()
"""A request of one row."""
VARIANTS: dict[str, dict[str, Any]] = {
    "model": {},
    "model-and-expectation": {"expectations": _EXPECTED},
    "scalar-features": {"features": _QUERY},
    "all": {
        "features": _QUERY,
        "expectations": _EXPECTED,
        "decide": {"decision": "case when score > 0.5 then 'block' else 'pass' end"},
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=300, help="requests of a round to each endpoint")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--server", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.server:
        folder, port = asked.server
        run_server(partial(_make_application, Path(folder)), Address("127.0.0.1", int(port)), 1, lambda _url: None)
        return
    with TemporaryDirectory() as folder, serve(Path(folder)) as (server, port):
        _show(_measure(server, port, asked.requests, asked.rounds))


@contextmanager
def serve(folder: Path) -> Iterator[tuple[psutil.Process, int]]:
    """Start a server of all variants, with the function that `penstock serve` calls. Give the process and its port."""
    prepare(folder)
    port = free_port()
    process = psutil.Popen([sys.executable, "-m", "benchmarks.serving", "--server", str(folder), str(port)])
    try:
        _connect(port).close()
        yield process, port
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port: int = bound.getsockname()[1]
        return port


def prepare(folder: Path) -> None:
    """Make a source with one row, and a model."""
    rng = np.random.default_rng(1)
    columns = {name: pa.array(rng.normal(size=4000)) for name in FEATURES}
    label = pa.array((columns["f0"].to_numpy() + rng.normal(size=4000) > 0).astype(int))
    trained = train(pa.table({**columns, "label": label}), "label", rounds=100, params={"max_depth": 6})
    trained.register(Registry(folder / "models"), "risk", alias="champion")
    engine = sa.create_engine(f"sqlite:///{folder / 'shop.db'}")
    table = sa.Table("rows", sa.MetaData(), sa.Column("id", sa.BigInteger, primary_key=True))
    for name in FEATURES:
        table.append_column(sa.Column(name, sa.Double))
    table.metadata.create_all(engine)
    engine.dispose()


def _make_application(folder: Path) -> Starlette:
    urls = {"shop": f"sqlite:///{folder / 'shop.db'}", "warehouse": f"sqlite:///{folder / 'warehouse.db'}"}
    settings = Settings(_env_file=None, home=folder, connections=urls)
    connect = Connector(lambda name: open_database(settings, name), ())
    served = {}
    for name, parts in VARIANTS.items():
        source = {"kind": "sql", "connection": "shop", "table": "rows", "key": ["id"]}
        body: dict[str, Any] = {
            "name": name,
            "sources": {"rows": source},
            "model": "risk@champion",
            "destination": {"table": "scores"},
        }
        pipeline = Pipeline.model_validate(body | parts)
        served[name] = ServedPipeline(pipeline, connect, Registry(folder / "models"), PartitionOptions(NO_MASKING, 60))
        served[name].take_models()
        assert served[name].scorer is not None, served[name].problem
    lookups = Lookups({}, settings, connect, Registry(folder / "models"))
    application = ServingApplication(served, Guard(LOCAL_HOSTS), lookups, poll_seconds=3600).build()
    _add_nothing(application)
    return application


def _add_nothing(application: Starlette) -> None:
    async def answer(request: Request) -> Response:
        await request.body()
        return Response(b'{"score": 0.5}', media_type="application/json")

    application.router.routes.append(Route("/nothing", answer, methods=["POST"]))


def _measure(server: psutil.Process, port: int, requests: int, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return by endpoint the CPU milliseconds of a request and the median milliseconds to its answer, by round."""
    connection = _connect(port)
    paths = {"nothing": "/nothing"} | {name: f"/pipelines/{name}/score" for name in VARIANTS}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in paths}
    for turn in range(rounds + 1):
        for name, path in paths.items():
            before, waited = sum(server.cpu_times()[:2]), []
            for _ in range(requests):
                begin = time.perf_counter()
                connection.request("POST", path, BODY, {"content-type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                waited.append(time.perf_counter() - begin)
                assert answer.status == 200
            spent = sum(server.cpu_times()[:2]) - before
            if turn:  # the first round warms up
                found[name].append((spent / requests * 1e3, statistics.median(waited) * 1e3))
    return found


def _connect(port: int) -> http.client.HTTPConnection:
    """Wait until the server listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for _ in range(600):
        try:
            connection.connect()
        except ConnectionRefusedError:
            time.sleep(0.1)
        else:
            break
    return connection


def _show(found: dict[str, list[tuple[float, float]]]) -> None:
    base = min(cpu for cpu, _ in found["nothing"])
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors\n")
    print("| endpoint | CPU ms | × nothing | median ms |\n|---|---|---|---|")
    for name, rounds in found.items():
        cpu = min(cpu for cpu, _ in rounds)
        print(f"| {name} | {cpu:.2f} | {cpu / base:.1f} | {min(median for _, median in rounds):.2f} |")


if __name__ == "__main__":
    main()
