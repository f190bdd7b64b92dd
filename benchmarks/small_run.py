"""Measure `penstock run` of one small interval: `python -m benchmarks.small_run [--rounds N]`.

Its commands take turns with a process that only does `import prefect, pandas, xgboost`. The figures are those of the
whole command and of the processes that it waits for. A server that lingers is none of them.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.ratios import find_regressions, is_busy, read_stored, store
from benchmarks.results import write_section

NAME, TITLE = "small-run", "Small runs: one interval of 6,000 rows on SQLite"
ROWS = 6_000
IMPORTS = "import prefect, pandas, xgboost"
_DAYS = 3
"""Days that one round scores."""
TARGETS = {"run": 2.0, "run with its own server": None, "nothing to do": 0.5}


@dataclass(frozen=True)
class Took:
    """What one command took."""

    seconds: float
    cpu_seconds: float


Rounds = dict[str, list[Took]]


def main() -> None:
    asked, busy = _parse(), is_busy()
    with TemporaryDirectory() as folder:
        project = _Project(Path(folder), 1 + 2 * _DAYS * asked.rounds)  # enough to measure again
        rounds: Rounds = {}
        _measure(project, rounds, asked.rounds)
        known = read_stored().get(NAME)
        worse = find_regressions(NAME, ratios_of(rounds, min), known, busy) if asked.check and known else []
        if worse:
            print("\n".join([*worse, f"{NAME}: measuring again"]), flush=True)
            _measure(project, rounds, asked.rounds)
            worse = find_regressions(NAME, ratios_of(rounds, min), known, busy) if known else []
        project.end()
    body = show_table(rounds)
    print(f"\n{TITLE}\n\n{body}\n")
    if asked.write:
        write_section(TITLE, body)
    if asked.store:
        store(NAME, ROWS, ratios_of(rounds, min))
    if asked.check and (worse or known is None):
        sys.exit("\n".join(worse) or f"{NAME}: no ratios are stored; --store stores them")


def ratios_of(rounds: Rounds, typical: Callable[[Sequence[float]], float]) -> dict[str, float]:
    """Return each command's figures divided by those of the imports."""
    found = {}
    for name in TARGETS:
        for figure in ("seconds", "cpu_seconds"):
            of, to = ([getattr(took, figure) for took in rounds[each]] for each in (name, IMPORTS))
            found[f"{name} / imports, {figure}"] = round(typical(of) / typical(to), 4)
    return found


def show_table(rounds: Rounds) -> str:
    """Return the medians and the ratios as Markdown."""
    lines = ["| | seconds | CPU seconds | all rounds |", "|---|---:|---:|---|"]
    for name, took in rounds.items():
        shown = f"`{name}`" if name == IMPORTS else name
        seconds, cpu = (
            statistics.median(getattr(each, figure) for each in took) for figure in ("seconds", "cpu_seconds")
        )
        lines.append(f"| {shown} | {seconds:.2f} | {cpu:.2f} | {', '.join(f'{each.seconds:.2f}' for each in took)} |")
    lines += ["", "| compared | is | target | |", "|---|---:|---:|---|"]
    for name, is_ in ratios_of(rounds, statistics.median).items():
        target = TARGETS[name.partition(" / ")[0]]
        kept = "" if target is None else "kept" if is_ <= target else "**missed**"
        lines.append(f"| {name} | {is_:.3g} | {target or ''} | {kept} |")
    return "\n".join([*lines, "", "Repeat: `python -m benchmarks.small_run --write`."])


class _Project:
    """A folder with one pipeline, and a shop with so many days of payments."""

    def __init__(self, folder: Path, days: int) -> None:
        from penstock.database.connections import close_engines, open_database
        from penstock.settings import Settings
        from tests.shop import SPEC, START, payments, train_model, write_payments

        self.folder, self.start, self.day = folder, START, 0
        shop = f"sqlite:///{folder / 'shop.db'}"
        settings = Settings(home=folder / ".penstock", connections={"shop": shop}, _env_file=None)
        write_payments(open_database(settings, "shop"), payments(days, ROWS))
        close_engines()
        train_model(folder / ".penstock" / "models")
        (folder / "card-risk.yaml").write_text(SPEC.replace("partition_rows: 150", ""), encoding="utf-8")
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "PENSTOCK_"))}
        self.environment = inherited | {
            "PYTHONPATH": str(Path.cwd()),
            "PENSTOCK_PIPELINES": str(folder),
            "PENSTOCK_CONNECTIONS__SHOP": shop,
            "GX_ANALYTICS_ENABLED": "false",
        }
        self.score_next("0")  # the first run in a folder creates the databases

    def score_next(self, linger: str) -> Took:
        """Score the next day."""
        self.day += 1
        return self.score_again(linger)

    def score_again(self, linger: str) -> Took:
        """Score a day that is published already."""
        begin = self.start + timedelta(days=self.day - 1)
        days = [f"--start={begin:%Y-%m-%d}", f"--end={begin + timedelta(days=1):%Y-%m-%d}"]
        return self.call("run", "card-risk", *days, PENSTOCK_LINGER=linger)

    def end(self) -> None:
        """End the server that lingers."""
        self.call("down")

    def call(self, *arguments: str, **environment: str) -> Took:
        code = "from penstock.cli import main; main()"
        return _time([sys.executable, "-c", code, *arguments], self.folder, self.environment | environment)


def _measure(project: _Project, rounds: Rounds, count: int) -> None:
    for _ in range(count):
        commands: dict[str, Callable[[], Took]] = {
            IMPORTS: lambda: _time([sys.executable, "-c", IMPORTS], project.folder, project.environment),
            "run with its own server": lambda: project.score_next("0"),
            "": lambda: project.score_next("10m"),  # starts the server that lingers
            "run": lambda: project.score_next("10m"),
            "nothing to do": lambda: project.score_again("10m"),
            "down": lambda: project.call("down"),
        }
        for name, command in commands.items():
            took = command()
            if name in {IMPORTS, *TARGETS}:
                rounds.setdefault(name, []).append(took)
                print(f"{name:30} {took.seconds:6.2f} s {took.cpu_seconds:6.2f} s CPU", flush=True)


def _time(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Took:
    begun, before = time.perf_counter(), os.times()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    seconds, after = time.perf_counter() - begun, os.times()
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(command[2:])} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}"
        )
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return Took(seconds, used)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.small_run", description="Measure small runs.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="write the result into benchmarks/RESULTS.md")
    parser.add_argument("--check", action="store_true", help="fail if a ratio is worse than the stored one")
    parser.add_argument("--store", action="store_true", help="store the ratios for --check")
    return parser.parse_args()


if __name__ == "__main__":
    main()
