"""A progress bar that reads the ledger, so that it works with every runner."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from penstock.cli.run.own_runs import OwnRuns
from penstock.errors import TransientError
from penstock.wording import plural

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

EVERY_SECONDS = 0.3


@contextmanager
def shown_progress(runs: OwnRuns, intervals: int, console: "Console") -> Iterator[None]:
    """Show the finished intervals, and the rows of the running one. Show nothing without a terminal."""
    if not console.is_terminal:
        yield
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(f"{runs.pipeline}: starting", total=intervals)
        stop = threading.Event()
        thread = threading.Thread(target=_follow, args=(runs, intervals, progress, task, stop), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(timeout=5)


def _follow(runs: OwnRuns, intervals: int, progress: "Progress", task: "TaskID", stop: threading.Event) -> None:
    while not stop.wait(EVERY_SECONDS):
        try:
            share, description = _measure(runs, intervals)
        except TransientError:
            continue  # the run itself reports if the warehouse stays unavailable
        progress.update(task, completed=share, description=description)


def _measure(runs: OwnRuns, intervals: int) -> tuple[float, str]:
    """Return the number of finished intervals, including a share of the running one, and a description."""
    from penstock.ledger.reader import rows_done
    from penstock.run_types import interval_label

    records = runs.records()
    ended = sum(1 for run in records if run.state != "running")
    current = next((run for run in records if run.state == "running"), None)
    if current is None:
        return ended, f"{runs.pipeline}: {ended} of {plural(intervals, 'interval')}"
    where = f"{interval_label(current.interval)} ({min(ended + 1, intervals)} of {intervals})"
    if not current.rows_planned:
        return ended, f"{where}: planning"
    done = rows_done(runs.database, [current.run_id])
    return ended + min(done / current.rows_planned, 1.0), f"{where}: {done:,} of {plural(current.rows_planned, 'row')}"
