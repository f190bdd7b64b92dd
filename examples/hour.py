"""An hour of all packs' schedules at once, compressed: `python -m penstock.examples.hour FOLDER [PACK …]`.

All packs lie in one project folder, and one `penstock up` has all their pipelines deployed. Each pipeline's runs are
spread over a simulated hour: Prefect's scheduler makes them, the worker starts them, and each takes the oldest interval
that is due and no other, as if it had just ended. Only the clock is compressed; the data are as old as they say. At the
end Prefect's run history and the ledger must tell the same: every planned run has completed, and every interval was
published by one of them, once.
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
from penstock.examples.restore import Kept, is_over, is_planned, judge, read_history
from penstock.examples.schedule_steps import MINUTES, Beat, spread, write_schedule

PENSTOCK = (sys.executable, "-c", "from penstock.cli import main; main()")
"""The command `penstock`, of the same Python."""
READY = "Ctrl-C stops everything"
LEAD = timedelta(seconds=20)
"""From the last deploy to the first run: the scheduler needs some seconds to plan the hour."""
PATIENCE = 900.0
"""Seconds beyond the hour in which runs that are late may still end."""


def run_hour(folder: Path, packs: Sequence[Pack], pace: float, report: Callable[[str], None]) -> tuple[Kept, ...]:
    """Run the hour on a project folder that `make_project` made, and return how each pipeline kept to it.

    Args:
        pace: real seconds of a simulated minute.

    Raises:
        SettingsError: `penstock up` did not start, or the server did not plan the hour in time.
    """
    with inside(folder) as project:
        beats = spread(project, packs, pace)
        for beat in beats:
            write_schedule(beat, None)
        with _up(folder) as api_url:
            begin = _deploy_hour(api_url, beats)
            runs = sum(len(beat.intervals) for beat in beats)
            length = timedelta(seconds=MINUTES * pace)
            report(f"{runs} runs of {len(beats)} pipelines from {begin:%H:%M:%S} on; the hour lasts {length}")
            deadline = begin + length + timedelta(seconds=PATIENCE)
            while datetime.now(UTC) < deadline and not is_over(api_url, beats):
                time.sleep(1)
            history = read_history(api_url, beats)
        kept = tuple(judge(project, beat, begin, history[beat.pipeline]) for beat in beats)
        project.close()
    return kept


def _deploy_hour(api_url: str, beats: Sequence[Beat]) -> datetime:
    """Deploy the compressed schedules, and wait until the server has planned every run; return when they begin."""
    begin = datetime.now(UTC).replace(microsecond=0) + LEAD
    for beat in beats:
        write_schedule(beat, begin)
    environment = os.environ | {"PREFECT_API_URL": api_url}
    subprocess.run([*PENSTOCK, "deploy", "--yes"], env=environment, stdout=subprocess.DEVNULL, check=True)
    while not is_planned(api_url, beats, begin):
        if datetime.now(UTC) > begin:
            raise SettingsError(f"the server at {api_url} has not planned the hour within {LEAD}", "Try once more.")
        time.sleep(0.5)
    return begin


@contextmanager
def _up(folder: Path) -> Iterator[str]:
    """Run `penstock up` in the folder until the end; give the address of its server once all is deployed."""
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
                raise SettingsError(f"`penstock up` has ended: {log.read_text(encoding='utf-8')}", "Mend it.")
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/api"
    finally:
        process.terminate()
        process.wait()


def show(kept: Sequence[Kept]) -> str:
    """Write the outcome as a table, and below it whatever is wrong."""
    head = f"{'pipeline':16} {'planned':>8} {'completed':>10} {'published':>10} {'rows':>8} {'latest start':>13}"
    lines = [
        f"{each.pipeline:16} {each.planned:8} {each.completed:10} {each.published:10} {each.rows:8,}"
        f" {each.latest.total_seconds():11.1f} s"
        for each in kept
    ]
    wrong = [problem for each in kept for problem in each.wrong]
    return "\n".join([head, *lines, *(wrong or ["No run is missing, and no interval was published twice."])])


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m penstock.examples.hour", description="An hour of all packs, compressed."
    )
    parser.add_argument("folder", type=Path, help="a folder that is not there yet")
    parser.add_argument("packs", nargs="*", default=[], help=f"of {', '.join(pack_names())}; all where left out")
    parser.add_argument("--pace", type=float, default=3.0, help="real seconds of a simulated minute (default: 3)")
    parser.add_argument("--small", action="store_true", help="small worlds, as the tests have them")
    given = parser.parse_args()
    if given.folder.exists():
        parser.error(f"{given.folder} is there already")
    packs = [open_pack(name) for name in given.packs or pack_names()]
    make_project(given.folder, packs, 7, datetime.now(UTC), small=given.small)
    kept = run_hour(given.folder, packs, given.pace, partial(print, flush=True))
    print(show(kept))
    sys.exit(any(each.wrong for each in kept))


if __name__ == "__main__":
    main()
