"""Load `penstock serve`: `python -m benchmarks.serving_load [--minutes N] [--mlflow PYTHON] [--bentoml PYTHON]`.

One client process on the same cores sends requests of one row at moments that were fixed before. Endpoints take turns
in the same run: one that only reads the body, a model, and a model with 20 features in SQL. Then ten times the load
comes for some seconds, and goes. With peers the same model is served by each in turn, features off.
"""

import argparse
import asyncio
import json
import os
import statistics
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from benchmarks.open_loop import Answers, Client
from benchmarks.serving import BODY, FEATURES, serve
from benchmarks.serving_peers import ROW, serve_peer

ENDPOINTS = {
    "reads the body": "/nothing",
    "a model": "/pipelines/model/score",
    "and 20 expressions": "/pipelines/scalar-features/score",
}
RATE = 100
SPLIT = json.dumps({"dataframe_split": {"columns": ["id", *FEATURES], "data": [[1, *ROW]]}}).encode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10, help="of each turn of an endpoint")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=1, help="of the load under which memory is measured")
    parser.add_argument("--mlflow", type=Path, metavar="PYTHON", help="of an environment with mlflow and xgboost")
    parser.add_argument("--bentoml", type=Path, metavar="PYTHON", help="of an environment with bentoml and xgboost")
    asked = parser.parse_args()
    with TemporaryDirectory() as folder, serve(Path(folder)) as (server, port):
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors\n")
        asyncio.run(_compare_endpoints(server, port, asked.seconds, asked.rounds))
        asyncio.run(_send_a_spike(port))
        asyncio.run(_watch_memory(server, port, asked.minutes))
        peers = {name: getattr(asked, name) for name in ("mlflow", "bentoml") if getattr(asked, name)}
        if peers:
            _compare_peers(peers, port, Path(folder), asked.seconds, asked.rounds)


async def _compare_endpoints(server: psutil.Process, port: int, seconds: float, rounds: int) -> None:
    """Print p50, p99 and CPU at a steady rate. The figures are medians of the rounds."""
    clients = {name: Client(port, path, BODY) for name, path in ENDPOINTS.items()}
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in clients}
    statuses: Counter[int] = Counter()
    for turn in range(rounds + 1):
        for name, client in clients.items():
            before = sum(server.cpu_times()[:2])
            answers = await client.send_at_rate(RATE, seconds if turn else 2)
            cpu = (sum(server.cpu_times()[:2]) - before) / answers.statuses.total() * 1e3
            if turn:  # the first round warms up
                statuses += answers.statuses
                found[name].append((answers.quantile(0.5), answers.quantile(0.99), cpu))
    for client in clients.values():
        await client.close()
    print(f"{RATE} requests a second, from the scheduled moment, median of {rounds} rounds of {seconds:g} s\n")
    print("| endpoint | p50 ms | p99 ms | × | CPU ms | × |\n|---|---|---|---|---|---|")
    medians = {name: [statistics.median(values) for values in zip(*each, strict=True)] for name, each in found.items()}
    base = medians["reads the body"]
    for name, (p50, p99, cpu) in medians.items():
        print(f"| {name} | {p50:.1f} | {p99:.1f} | {p99 / base[1]:.1f} | {cpu:.2f} | {cpu / base[2]:.1f} |")
    print(f"\nanswers by status: {dict(statuses)}")


async def _send_a_spike(port: int) -> None:
    """Print what becomes of ten times the load, and of the load after it."""
    client = Client(port, ENDPOINTS["a model"], BODY)
    for name, rate, seconds in (("before", RATE, 3), ("spike", 10 * RATE, 5), ("after", RATE, 3)):
        answers = await client.send_at_rate(rate, seconds)
        print(f"{name}: {rate}/s, answers by status {dict(answers.statuses)}, p99 {answers.quantile(0.99):.1f} ms")
    await client.close()


async def _watch_memory(server: psutil.Process, port: int, minutes: float) -> None:
    client, statuses = Client(port, ENDPOINTS["and 20 expressions"], BODY), Counter[int]()
    seen = []
    for _ in range(10):
        statuses += (await client.send_at_rate(RATE, minutes * 6)).statuses
        seen.append(server.memory_info().rss / 2**20)
    await client.close()
    shown = ", ".join(f"{mb:.0f}" for mb in seen)
    print(f"\n{minutes:g} min at {RATE}/s: answers by status {dict(statuses)}, MB after each tenth: {shown}")


def _compare_peers(peers: dict[str, Path], port: int, folder: Path, seconds: float, rounds: int) -> None:
    """Print throughput with 8 requests in flight, and p99 at a steady rate, of each server in turn."""
    print("\n| server | answers a second | p50 ms | p99 ms | p99 ms at 100/s | without a score |")
    print("|---|---|---|---|---|---|")
    _show_peer("penstock", port, "/pipelines/model/invocations", SPLIT, seconds, rounds)
    for name, python in peers.items():
        with serve_peer(name, python, next(folder.rglob("*.ubj")), folder) as (_, own, path, body):
            _show_peer(name, own, path, body, seconds, rounds)


def _show_peer(name: str, port: int, path: str, body: bytes, seconds: float, rounds: int) -> None:
    async def measure() -> list[tuple[Answers, Answers]]:
        client = Client(port, path, body)
        await client.send_together(8, 2)  # warms up
        found = []
        for _ in range(rounds):
            found.append((await client.send_together(8, seconds), await client.send_at_rate(RATE, seconds)))
        await client.close()
        return found

    found = asyncio.run(measure())
    full = [together for together, _ in found]
    assert all(set(each.statuses) == {200} for each in full), full[0].statuses
    shed = sum(steady.statuses.total() - steady.statuses[200] for _, steady in found)
    figures = (
        statistics.median(each.per_second for each in full),
        statistics.median(each.quantile(0.5) for each in full),
        statistics.median(each.quantile(0.99) for each in full),
        statistics.median(steady.quantile(0.99) for _, steady in found),
    )
    print("| {} | {:.0f} | {:.1f} | {:.1f} | {:.1f} | {} |".format(name, *figures, shed))


if __name__ == "__main__":
    main()
