"""Compressed schedules: a pipeline's runs spread over one simulated hour, whose minutes last some seconds."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from penstock import DataInterval, Project, SettingsError, load_pipeline
from penstock.examples.pack import Pack
from penstock.examples.project import read_size, scored_span

MINUTES = 60
APART = 2
"""Minutes between the first runs of two pipelines, so that no two start at the same moment."""


@dataclass(frozen=True)
class HourSchedule:
    """When one pipeline runs within the hour, and for which intervals."""

    pipeline: str
    intervals: tuple[DataInterval, ...]
    """One for each run, oldest first, as if it had just ended."""
    every: timedelta
    after: timedelta
    """From the start of the hour to the first run."""

    def moments(self, begin: datetime) -> list[datetime]:
        """Return when each run is planned, for an hour that starts at `begin`."""
        return [begin + self.after + number * self.every for number in range(len(self.intervals))]

    def rrule(self, begin: datetime) -> str:
        """Return the schedule as an RRULE with an end."""
        starts, seconds = begin + self.after, round(self.every.total_seconds())
        rule = f"FREQ=SECONDLY;INTERVAL={seconds};COUNT={len(self.intervals)}"
        return f"DTSTART:{starts:%Y%m%dT%H%M%S}\\nRRULE:{rule}"


def spread(project: Project, packs: Sequence[Pack], pace: float) -> tuple[HourSchedule, ...]:
    """Spread the runs of each of the packs' pipelines evenly over the hour.

    Args:
        pace: Real seconds in a simulated minute.
    """
    names = [(pack, name) for pack in packs for name in pack.pipelines]
    return tuple(_schedule(project, pack, name, pace, at * APART) for at, (pack, name) in enumerate(names))


def _schedule(project: Project, pack: Pack, name: str, pace: float, minutes: float) -> HourSchedule:
    interval = project.load_pipeline(name).interval
    if interval is None:
        raise SettingsError(f"`{name}` is a snapshot pipeline and has no intervals", "Leave its pack out.")
    until = scored_span(pack, interval, read_size(pack)).end
    intervals = interval.grid.split(until)
    every = max(1, round(MINUTES * pace / len(intervals)))
    return HourSchedule(name, tuple(intervals), timedelta(seconds=every), timedelta(seconds=round(minutes * pace)))


def write_schedule(schedule: HourSchedule, begin: datetime | None) -> None:
    """Write the compressed schedule, or none, into the pipeline's file. Each run takes exactly one interval."""
    file = Path("pipelines", f"{schedule.pipeline}.yaml")
    text = re.sub(r"(?m)^schedule: \{.*\}\n", "", file.read_text(encoding="utf-8"))
    text, changed = re.subn(r"(?m)^(  max_intervals: )\d+", r"\g<1>1", text)
    file.write_text(text, encoding="utf-8")
    if changed != 1 or load_pipeline(file).schedule is not None:
        raise SettingsError(f"{file} does not contain one `schedule: {{…}}` and one `max_intervals:`", "Restore it.")
    if begin is not None:
        file.write_text(f'{text}schedule: {{rrule: "{schedule.rrule(begin)}"}}\n', encoding="utf-8")
