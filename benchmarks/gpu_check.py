"""Compare scores on a GPU with those on the processor, and show where the GPU pays: `make gpu-check`.

The comparison takes one model of each objective and kind of booster, with categories and missing values, through the
model store, as a run does. Then a table of trees, depth and rows has the speed of both devices. It ends after at most
five minutes. Without a GPU it prints the reason and checks nothing.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

from penstock.models.booster import ModelVersion, find_gpu_fault
from penstock.models.golden import TOLERANCE
from penstock.models.registry import Registry
from penstock.models.training import train
from penstock.settings import Device

SECONDS = 240.0
"""When no further cell of the table is begun."""
TREES, DEPTHS, ROWS = (100, 500, 1_000), (6, 10), (10_000, 100_000, 1_000_000)
ROUNDS = 3
COMPARED_ROWS, COMPARED_TREES = 5_000, 20
_COUNTRIES = ("DE", "FR", "IT", "PL", "Österreich")


@dataclass(frozen=True)
class Case:
    """A kind of model to compare."""

    name: str
    objective: str
    params: Mapping[str, Any] = field(default_factory=dict)
    group: tuple[str, ...] = ()


CASES = (
    Case("logistic", "binary:logistic"),
    Case("raw margin", "binary:logitraw"),
    Case("regression", "reg:squarederror"),
    Case("absolute error", "reg:absoluteerror"),
    Case("gamma", "reg:gamma"),
    Case("tweedie", "reg:tweedie"),
    Case("count", "count:poisson"),
    Case("classes", "multi:softprob"),
    Case("best class", "multi:softmax"),
    Case("ranking", "rank:ndcg", group=("day",)),
    Case("DART", "binary:logistic", {"booster": "dart", "rate_drop": 0.2}),
    Case("linear (always the processor)", "binary:logistic", {"booster": "gblinear"}),
)


@dataclass(frozen=True)
class Compared:
    """How far the scores of two devices are apart."""

    name: str
    rows: int
    apart: float
    """The largest difference, relative to the largest score of its output."""

    @property
    def is_equal(self) -> bool:
        return self.apart <= TOLERANCE


@dataclass(frozen=True)
class Timed:
    """Seconds of both devices for one model and number of rows, each the median of some rounds."""

    trees: int
    depth: int
    rows: int
    cpu: float
    other: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--device", choices=("cuda", "cpu"), default="cuda", help="cpu compares the processor to itself"
    )
    asked = parser.parse_args()
    fault = find_gpu_fault() if asked.device == "cuda" else None
    if fault is not None:
        print(f"not checked: {fault}. Run `make gpu-check` on a machine with an NVIDIA GPU.")
        return 0
    begun = time.monotonic()
    with TemporaryDirectory(prefix="penstock-gpu-") as folder:
        compared = []
        for each in compare_devices(Path(folder), asked.device):
            compared.append(each)
            sign = "=" if each.is_equal else "DIFFERS"
            print(f"{sign:8}{each.name}: {each.rows:,} rows, {each.apart:.1e} apart", flush=True)
        print(f"\n| trees | depth | rows | cpu / {asked.device} |\n|---:|---:|---:|---:|")
        for cell in time_devices(Path(folder), asked.device, begun + SECONDS):
            print(f"| {cell.trees:,} | {cell.depth} | {cell.rows:,} | {cell.cpu / cell.other:.2f} |", flush=True)
    worse = [each.name for each in compared if not each.is_equal]
    if worse:
        print(f"\n{asked.device} gives other scores than the processor, beyond {TOLERANCE}: {', '.join(worse)}")
    else:
        print(f"\n{asked.device} gives the scores of the processor within {TOLERANCE}. Above 1 in the table it pays.")
    return 1 if worse else 0


def compare_devices(store: Path, device: Device, cases: Sequence[Case] = CASES) -> Iterator[Compared]:
    """Score the same rows on both devices with one model of each kind."""
    rows = make_rows(COMPARED_ROWS)
    for case in cases:
        here, there = open_on_both(store, case, rows, device)
        scores = here.score(rows), there.score(rows)
        alone = there.score(rows, threads=1)  # as a worker of one thread scores
        yield Compared(case.name, rows.num_rows, max(measure_distance(*scores), measure_distance(scores[0], alone)))


def time_devices(store: Path, device: Device, until: float) -> Iterator[Timed]:
    """Time both devices in turn. No model and no number of rows is begun after `until`."""
    for depth in DEPTHS:
        for trees in TREES:
            if time.monotonic() > until:
                return
            case = Case(f"speed-{trees}-{depth}", "binary:logistic", {"max_depth": depth, "min_child_weight": 0})
            here, there = open_on_both(store, case, make_rows(5_000), device, trees)
            for count in ROWS:
                if time.monotonic() > until:
                    return
                rows = make_rows(count)
                seconds: dict[str, list[float]] = {"cpu": [], "other": []}
                for _ in range(ROUNDS):
                    for name, version in (("cpu", here), ("other", there)):
                        begun = time.perf_counter()
                        version.score(rows)
                        seconds[name].append(time.perf_counter() - begun)
                medians = {name: statistics.median(found) for name, found in seconds.items()}
                yield Timed(trees, depth, count, medians["cpu"], medians["other"])


def make_rows(count: int) -> pa.Table:
    """Return numbers, a category beyond ASCII and missing values, in groups of 20 rows."""
    rng = np.random.default_rng(5)
    missing = rng.random(count) < 0.1
    return pa.table(
        {
            "day": pa.array(np.arange(count) // 20),
            "amount": pa.array(rng.lognormal(3, 1, count), mask=missing),
            "ratio": pa.array(rng.standard_normal(count)),
            "items": pa.array(rng.integers(1, 9, count)),
            "first": pa.array(rng.random(count) < 0.3),
            "country": pa.array([_COUNTRIES[at] for at in rng.integers(0, len(_COUNTRIES), count)], mask=missing[::-1]),
        }
    )


def open_on_both(
    store: Path, case: Case, rows: pa.Table, device: Device, trees: int = COMPARED_TREES
) -> tuple[ModelVersion, ModelVersion]:
    """Train a model, register it, and open it on the processor and on the device."""
    frame = rows.append_column("label", _make_label(rows, case))
    names = [name for name in rows.column_names if name != "day"]
    if case.params.get("booster") == "gblinear":
        names.remove("country")  # a linear booster takes no categories
    trained = train(
        frame, "label", names, case.objective, params=case.params, rounds=trees, holdout=0.0, group=case.group
    )
    name = "".join(letter if letter.isalnum() else "-" for letter in case.name).strip("-")
    manifest = trained.register(Registry(store), name)
    pin = Registry(store).resolve(f"{name}@{manifest.version}")
    return Registry(store).load(pin), Registry(store, device).load(pin)


def measure_distance(here: pa.Table, there: pa.Table) -> float:
    """Return the largest difference of two tables of scores, relative to the largest score of its column."""
    apart = 0.0
    for name in here.column_names:
        ours, theirs = here[name], there[name]
        if pa.types.is_string(ours.type):  # the class: its probabilities decide
            continue
        mine, other = ours.to_numpy(), theirs.to_numpy()
        largest = max(float(np.abs(mine).max(initial=0.0)), 1e-12)
        apart = max(apart, float(np.abs(mine - other).max(initial=0.0)) / largest)
    return apart


def _make_label(rows: pa.Table, case: Case) -> Any:
    amount = np.nan_to_num(rows["amount"].to_numpy(zero_copy_only=False), nan=10.0)
    noise = np.random.default_rng(6).standard_normal(rows.num_rows)
    signal = np.log(amount) + rows["ratio"].to_numpy() + noise
    if case.objective.startswith("binary:"):
        return pa.array((signal > 3).astype(np.int64))
    if case.objective.startswith(("multi:", "rank:")):
        return pa.array(np.clip(signal, 0, 3).astype(np.int64))
    if case.objective.startswith("count:"):
        return pa.array(np.clip(signal, 0, None).round())
    return pa.array(np.exp(signal / 3))


if __name__ == "__main__":
    sys.exit(main())
