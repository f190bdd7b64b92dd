"""What people answered to alarms of drift: acknowledged until the episode ends, or snoozed until a time."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.errors import NoDriftAlarm
from penstock.interval import DataInterval
from penstock.ledger.migrations import has_ledger
from penstock.ledger.profiles import JUDGED, newest_judged, read_profiles
from penstock.ledger.reader import RunRecord, find_run
from penstock.ledger.tables import drift_answers, runs
from penstock.run_types import ColumnProfile
from penstock.spec.expectation_types import Severity


@dataclass(frozen=True)
class DriftAnswer:
    """The newest answer of a person about a column."""

    column: str
    answered_at: datetime
    episode: str
    """The run with which the alarm began."""
    silent_until: datetime | None
    """Of a snooze: until when no message is sent. None: acknowledged until the episode ends."""
    answered_by: str
    note: str
    reminded_by: str | None = None
    """The first run with the alarm after the snooze. It sends the message again."""

    def silences(self, episode: str, moment: datetime) -> bool:
        """Whether the alarm of an episode sends no message at a time."""
        return self.episode == episode if self.silent_until is None else moment < self.silent_until

    def is_over(self, moment: datetime) -> bool:
        """Whether it is a snooze that has ended."""
        return self.silent_until is not None and self.silent_until <= moment


@dataclass(frozen=True)
class DriftEpisode:
    """An alarm of a column that the newest judged run has."""

    column: str
    severity: Severity
    run_id: str
    """The run with which it began."""
    interval: DataInterval | None
    """The interval of that run."""
    began_at: datetime
    answer: DriftAnswer | None

    def is_answered(self, now: datetime) -> bool:
        """Whether a person has acknowledged it, or has snoozed it until after now."""
        return self.answer is not None and self.answer.silences(self.run_id, now)


def lasting_episodes(database: Database, pipeline: str) -> list[DriftEpisode]:
    """Return the alarms of the live run that was judged last, by column. Empty if it has none."""
    run = newest_judged(database, pipeline) if has_ledger(database) else None
    if run is None:
        return []
    profiles = [each for each in read_profiles(database, run.run_id).values() if each.alarm and each.episode]
    answers = read_answers(database, pipeline) if profiles else {}
    return list(_list_episodes(database, profiles, answers))


def _list_episodes(
    database: Database, profiles: Sequence[ColumnProfile], answers: Mapping[str, DriftAnswer]
) -> Iterator[DriftEpisode]:
    for profile in profiles:
        assert profile.alarm
        assert profile.episode
        first, answer = find_run(database, profile.episode), answers.get(profile.column)
        began = (profile.episode, first.interval, first.started_at)
        yield DriftEpisode(profile.column, profile.alarm, *began, answer)


def answer_alarms(
    database: Database,
    pipeline: str,
    columns: Collection[str],
    by: str,
    note: str,
    now: datetime,
    until: datetime | None = None,
) -> list[DriftEpisode]:
    """Acknowledge lasting alarms, or snooze them. Nothing else changes: a critical alarm still halts.

    Args:
        columns: Whose alarms. Empty: all that last.
        until: Of a snooze. None: until the episode ends.

    Returns:
        The episodes with their answers.

    Raises:
        NoDriftAlarm: a column has no lasting alarm, or none has one.
    """
    lasting = {each.column: each for each in lasting_episodes(database, pipeline)}
    unknown = [column for column in columns if column not in lasting]
    if unknown or not lasting:
        raise NoDriftAlarm(pipeline, unknown[0] if unknown else "", tuple(lasting))
    chosen = list(dict.fromkeys(columns)) or list(lasting)
    about = {"pipeline": pipeline, "answered_at": now, "silent_until": until, "answered_by": by, "note": note}
    rows = [about | {"column_name": column, "episode": lasting[column].run_id} for column in chosen]
    with database.writing() as connection:
        connection.execute(drift_answers.insert(), rows)
    answered = {column: DriftAnswer(column, now, lasting[column].run_id, until, by, note) for column in chosen}
    return list(_with_answers([lasting[column] for column in chosen], answered))


def _with_answers(episodes: Sequence[DriftEpisode], answers: Mapping[str, DriftAnswer]) -> Iterator[DriftEpisode]:
    for each in episodes:
        yield DriftEpisode(
            each.column, each.severity, each.run_id, each.interval, each.began_at, answers.get(each.column)
        )


def read_answers(database: Database, pipeline: str) -> dict[str, DriftAnswer]:
    """Return the newest answer about each column."""
    reminding = runs.alias("reminding")
    reminded = sa.case((reminding.c.state.in_(JUDGED), drift_answers.c.reminded_by_run))
    names = ("column_name", "answered_at", "episode", "silent_until", "answered_by", "note")
    query = (
        sa.select(*(drift_answers.c[name] for name in names), reminded)
        .select_from(drift_answers.outerjoin(reminding, reminding.c.run_id == drift_answers.c.reminded_by_run))
        .where(drift_answers.c.pipeline == pipeline)
        .order_by(drift_answers.c.answered_at)
    )
    with database.reading() as connection:
        return {row[0]: DriftAnswer(*row) for row in connection.execute(query)}


def answers_about(database: Database, run: RunRecord, profiles: Mapping[str, ColumnProfile]) -> dict[str, DriftAnswer]:
    """Return the answers about a run's alarms by column: about their episodes, or a snooze that its start was in."""
    alarms = {each.column: each.episode for each in profiles.values() if each.alarm and each.episode}
    answers = read_answers(database, run.pipeline) if alarms else {}
    return {
        column: answers[column]
        for column, episode in alarms.items()
        if column in answers
        and (answers[column].episode == episode or answers[column].silences(episode, run.started_at))
    }


def choose_messages(
    run: RunRecord, episodes: Mapping[str, str], before: Collection[str], answers: Mapping[str, DriftAnswer]
) -> list[str]:
    """Return the columns about whose alarms a run sends a message.

    Their alarm begins with the run and is not snoozed, or a snooze has ended and no run has reminded of it.

    Args:
        episodes: by column with an alarm, the run with which it began.
        before: the columns whose alarm the run before had.
        answers: by column.
    """
    chosen = []
    for column, episode in episodes.items():
        answer = answers.get(column)
        if answer is not None and answer.is_over(run.started_at):
            if column not in before or answer.reminded_by in (None, run.run_id):
                chosen.append(column)
        elif column not in before and not (answer and answer.silences(episode, run.started_at)):
            chosen.append(column)
    return chosen


def record_reminders(connection: sa.Connection, run_id: str, pipeline: str, columns: Collection[str]) -> None:
    """Record that a run sends messages about these columns. Part of the audit's transaction."""
    started = sa.select(runs.c.started_at).where(runs.c.run_id == run_id).scalar_subquery()
    over = (drift_answers.c.pipeline == pipeline, drift_answers.c.silent_until <= started)
    if columns:
        change = sa.update(drift_answers).where(*over, drift_answers.c.column_name.in_(columns))
        connection.execute(change.values(reminded_by_run=run_id))
