"""Run an hour of all packs' schedules at once, compressed: `python -m penstock.examples.hour FOLDER [PACK …]`.

All packs are in one project folder, and one `penstock up` deploys all their pipelines. Each pipeline's runs are
spread over a simulated hour: Prefect's scheduler makes them, the worker starts them, and each takes the oldest interval
that is due and no other, as if it had just ended. Only the clock is compressed, not the data. At the end Prefect's run
history and the ledger must agree: every planned run completed, and every interval was published once, by one of them.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from socket import socket

from penstock import SettingsError
from penstock.examples.__main__ import make_project
from penstock.examples.pack import Pack, open_pack, pack_names
from penstock.examples.project import inside
from penstock.examples.reconcile import HourResult, is_over, is_planned, judge, read_history
from penstock.examples.schedule_steps import MINUTES, HourSchedule, spread, write_schedule

PENSTOCK = (sys.executable, "-c", "from penstock.cli import main; main()")
"""The command `penstock`, of the same Python."""
READY = "Ctrl-C stops everything"
LEAD = timedelta(seconds=45)
"""From the begin of the deploy to the first run: `penstock deploy` and the scheduler need some seconds."""
PATIENCE = 900.0
"""Seconds after the hour in which late runs may still end."""


def run_hour(folder: Path, packs: Sequence[Pack], pace: float, report: Callable[[str], None]) -> tuple[HourResult, ...]:
    """Run the hour in a folder that `make_project` made, and return each pipeline's result.

    Args:
        pace: Real seconds in a simulated minute.

    Raises:
        SettingsError: `penstock up` did not start, or the server did not plan the hour in time.
    """
    with inside(folder) as project:
        schedules = spread(project, packs, pace)
        for schedule in schedules:
            write_schedule(schedule, None)
        with _up(folder) as api_url:
            begin = _deploy_hour(api_url, schedules)
            runs = sum(len(schedule.intervals) for schedule in schedules)
            length = timedelta(seconds=MINUTES * pace)
            report(f"{runs} runs of {len(schedules)} pipelines from {begin:%H:%M:%S} on; the hour lasts {length}")
            deadline = begin + length + timedelta(seconds=PATIENCE)
            while datetime.now(UTC) < deadline and not is_over(api_url, schedules):
                time.sleep(1)
            history = read_history(api_url, schedules)
        results = tuple(judge(project, schedule, begin, history[schedule.pipeline]) for schedule in schedules)
        project.close()
    return results


def _deploy_hour(api_url: str, schedules: Sequence[HourSchedule]) -> datetime:
    """Deploy the compressed schedules, wait until the server has planned every run, and return their start."""
    begin = datetime.now(UTC).replace(microsecond=0) + LEAD
    for schedule in schedules:
        write_schedule(schedule, begin)
    environment = os.environ | {"PREFECT_API_URL": api_url}
    subprocess.run([*PENSTOCK, "deploy", "--yes"], env=environment, stdout=subprocess.DEVNULL, check=True)
    while not is_planned(api_url, schedules, begin):
        if datetime.now(UTC) > begin:
            raise SettingsError(f"the server at {api_url} has not planned the hour within {LEAD}", "Try once more.")
        time.sleep(0.5)
    return begin


@contextmanager
def _up(folder: Path) -> Iterator[str]:
    """Run `penstock up` in the folder. Give the address of its server once everything is deployed."""
    with closing(socket()) as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
    log = Path("up.log").absolute()
    command = [*PENSTOCK, "up", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    try:
        while READY not in log.read_text(encoding="utf-8"):
            if process.poll() is not None:
                raise SettingsError(
                    f"`penstock up` has ended: {log.read_text(encoding='utf-8')}", "Repair that and run again."
                )
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/api"
    finally:
        process.terminate()
        process.wait()


def show(results: Sequence[HourResult]) -> str:
    """Write the results as a table, and the problems below it."""
    head = f"{'pipeline':16} {'planned':>8} {'completed':>10} {'published':>10} {'rows':>8} {'latest start':>13}"
    lines = [
        f"{each.pipeline:16} {each.planned:8} {each.completed:10} {each.published:10} {each.rows:8,}"
        f" {each.latest.total_seconds():11.1f} s"
        for each in results
    ]
    wrong = [problem for each in results for problem in each.wrong]
    return "\n".join([head, *lines, *(wrong or ["No run is missing, and no interval was published twice."])])


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m penstock.examples.hour", description="An hour of all packs, compressed."
    )
    parser.add_argument("folder", type=Path, help="a folder that does not exist yet")
    parser.add_argument("packs", nargs="*", default=[], help=f"of {', '.join(pack_names())}; all where left out")
    parser.add_argument("--pace", type=float, default=3.0, help="real seconds of a simulated minute (default: 3)")
    parser.add_argument("--small", action="store_true", help="small worlds, as the tests have them")
    given = parser.parse_args()
    if given.folder.exists():
        parser.error(f"{given.folder} is there already")
    packs = [open_pack(name) for name in given.packs or pack_names()]
    make_project(given.folder, packs, 7, datetime.now(UTC), small=given.small)
    results = run_hour(given.folder, packs, given.pace, partial(print, flush=True))
    print(show(results))
    sys.exit(any(each.wrong for each in results))


if __name__ == "__main__":
    main()
