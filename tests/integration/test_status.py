"""`penstock status`: each fact of a pipeline's week, what needs a person, and the exit code."""

import json
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from penstock.cli.app import app
from penstock.database.connections import Database, open_database
from penstock.interval import DataInterval, iso
from penstock.ledger.tables import runs
from penstock.report.needs import Pause, ScheduleState
from penstock.report.status import DayMark, Mark, PipelineStatus, read_status
from penstock.spec.pipeline import Pipeline
from penstock.spec.yaml_file import parse_pipeline
from tests.conftest import DIALECTS
from tests.large_ledger import TEN_YEARS, fill_ledger
from tests.shop import SPEC, START, Place

DAY = timedelta(days=1)
NIGHTLY = 'schedule: {cron: "15 2 * * *"}\n'


def pipeline_of(*lines: str, grain: str = "1d") -> Pipeline:
    return parse_pipeline("\n".join([SPEC.replace("grain: 1d", f"grain: {grain}"), *lines]).encode(), "x")


def day(number: int) -> DataInterval:
    return DataInterval(START + number * DAY, START + (number + 1) * DAY)


@pytest.fixture(params=DIALECTS)
def warehouse(request: Any, use_settings: Callable[..., Any], database_url: Callable[[str, str], str]) -> Database:
    url = database_url(request.param, "warehouse")
    return open_database(use_settings(warehouse=url, shop=url), "warehouse")


def write_runs(database: Database, pipeline: Pipeline, *states: str, **changes: Any) -> None:
    """Write one run a day from the pipeline's start, in these states."""
    fill_ledger(database, pipeline, len(states), parts=False)
    with database.writing() as connection:
        found = connection.execute(sa.select(runs.c.run_id).order_by(runs.c.interval_start)).scalars().all()
        for number, (run_id, state) in enumerate(zip(found, states, strict=True)):
            interval = day(number)
            began = interval.end + timedelta(hours=2, minutes=15)
            values = {
                "state": state,
                "interval_start": interval.start,
                "interval_end": interval.end,
                "interval_key": interval.key,
                "started_at": began,
                "finished_at": None if state == "running" else began + timedelta(minutes=5),
                "published_at": began + timedelta(minutes=5) if state == "published" else None,
                "lease_until": began + timedelta(minutes=1),
                "error": None if state == "published" else f"the run of day {number} is {state}",
                "reason": "due",
            }
            connection.execute(sa.update(runs).where(runs.c.run_id == run_id).values(**values | changes.get(state, {})))


def strip(status: PipelineStatus) -> list[Mark]:
    return [each.mark for each in status.week]


def test_a_week_has_a_mark_a_day(warehouse: Database) -> None:
    pipeline = pipeline_of(NIGHTLY)
    write_runs(warehouse, pipeline, "published", "halted", "published", "failed", "published")
    now = day(5).end + timedelta(hours=12)

    status = read_status(warehouse, pipeline, now)

    assert strip(status) == ["none", "published", "halted", "published", "failed", "published", "missing"]
    assert status.week[-1] == DayMark(now.date(), "missing", 1)
    assert (status.missing, status.halted, status.failed) == (3, 1, 1)
    assert status.missing_first == day(1).label
    assert status.last_interval == day(4).label
    assert status.last_published_at == day(4).end + timedelta(hours=2, minutes=20)


def test_halted_failed_and_late_intervals_need_a_person_each_with_its_command(warehouse: Database) -> None:
    pipeline = pipeline_of(NIGHTLY)
    write_runs(warehouse, pipeline, "published", "halted", "failed")

    needs = read_status(warehouse, pipeline, day(4).end + timedelta(hours=12)).needs

    assert [(need.kind, need.interval) for need in needs] == [
        ("failed", day(2).label),
        ("halted", day(1).label),
        ("late", day(3).label),
    ]
    assert [need.number for need in needs] == [1, 1, 2]
    assert needs[1].why == "the run of day 1 is halted"
    assert needs[1].command == f"penstock show {needs[1].run_id[:8]}"
    assert needs[2].command == "penstock run card-risk"
    assert needs[2].since == day(3).end + timedelta(hours=2, minutes=15)


@pytest.mark.parametrize(("hours", "late"), [(1, False), (2.4, False), (2.6, True)])
def test_an_interval_is_late_only_after_a_start_that_should_have_scored_it(
    use_settings: Callable[..., Any], database_url: Callable[[str, str], str], hours: float, late: bool
) -> None:
    url = database_url("sqlite", "warehouse")
    warehouse, pipeline = open_database(use_settings(warehouse=url, shop=url), "warehouse"), pipeline_of(NIGHTLY)
    write_runs(warehouse, pipeline, "published")

    status = read_status(warehouse, pipeline, day(1).end + timedelta(hours=hours))

    assert status.missing == 1
    assert bool(status.needs) == late
    assert status.next_run_from == "schedule"


def test_a_restate_that_died_is_wanted_again_and_the_scores_before_it_stand(warehouse: Database) -> None:
    pipeline = pipeline_of(NIGHTLY)
    write_runs(warehouse, pipeline, "published", "published")
    with warehouse.writing() as connection:
        run = dict(connection.execute(sa.select(runs).order_by(runs.c.interval_start).limit(1)).mappings().one())
        died = run | {
            "run_id": "d" * 32,
            "state": "running",
            "reason": "restate",
            "published_at": None,
            "started_at": day(1).end + timedelta(hours=3),
            "lease_until": day(1).end + timedelta(hours=3, minutes=1),
        }
        connection.execute(runs.insert().values(**died))
    during, after = (day(1).end + timedelta(hours=3, seconds=seconds) for seconds in (30, 90))

    [need] = read_status(warehouse, pipeline, after).needs

    assert read_status(warehouse, pipeline, during).needs == ()
    assert need.kind == "restate"
    assert need.command == f"penstock run card-risk --restate --start {iso(day(0).start)} --end {iso(day(0).end)}"
    assert strip(read_status(warehouse, pipeline, after))[-2:] == ["published", "published"]


def test_an_interval_that_was_withdrawn_needs_nobody(warehouse: Database) -> None:
    pipeline = pipeline_of(NIGHTLY)
    write_runs(warehouse, pipeline, "published", "withdrawn")

    status = read_status(warehouse, pipeline, day(1).end + timedelta(hours=12))

    assert (status.missing, status.needs, strip(status)[-1]) == (0, (), "withdrawn")


@pytest.mark.parametrize(
    ("state", "pause"),
    [
        (None, Pause(in_spec=True)),
        (ScheduleState(None, Pause()), Pause(in_spec=True)),
        (ScheduleState(None, Pause("the shop migrates", "ann", START)), Pause("the shop migrates", "ann", START)),
        (ScheduleState(day(5).end, None), None),  # someone resumed it in Prefect, until the next deploy
    ],
)
def test_a_schedule_that_its_file_pauses_is_shown_as_it_is_on_the_server(
    warehouse: Database, state: ScheduleState | None, pause: Pause | None
) -> None:
    pipeline = pipeline_of('schedule: {cron: "15 2 * * *", active: false}')

    status = read_status(warehouse, pipeline, day(4).end, state=state)

    assert (status.pause, status.next_run) == (pause, day(5).end if pause is None else None)


def test_a_pause_is_no_need_and_its_missing_intervals_are_shown(warehouse: Database) -> None:
    pipeline = pipeline_of(NIGHTLY)
    write_runs(warehouse, pipeline, "published")
    pause = Pause("the shop migrates", "ann", START)

    status = read_status(warehouse, pipeline, day(4).end, state=ScheduleState(None, pause))

    assert (status.pause, status.missing, status.needs, status.next_run) == (pause, 4, (), None)


def test_a_planned_run_that_never_started_needs_a_person(warehouse: Database) -> None:
    pipeline, now = pipeline_of(NIGHTLY), day(0).end + timedelta(hours=3)
    write_runs(warehouse, pipeline, "published")

    [need] = read_status(warehouse, pipeline, now, state=ScheduleState(now - timedelta(hours=1), None)).needs

    assert (need.kind, need.command) == ("not started", "penstock doctor")


def test_without_a_schedule_due_intervals_wait_for_a_person(warehouse: Database) -> None:
    pipeline = pipeline_of()
    write_runs(warehouse, pipeline, "published")

    [need] = read_status(warehouse, pipeline, day(2).end).needs

    assert (need.kind, need.number, need.command) == ("no schedule", 2, "penstock run card-risk")


def test_catch_up_latest_leaves_older_intervals_out(warehouse: Database) -> None:
    spec = SPEC.replace("grain: 1d", "grain: 1d, catch_up: latest") + NIGHTLY
    pipeline = parse_pipeline(spec.encode(), "x")
    write_runs(warehouse, pipeline, "published")

    status = read_status(warehouse, pipeline, day(4).end + timedelta(hours=12))

    assert (status.missing, status.missing_first) == (1, day(4).label)


def test_a_snapshot_pipeline_shows_its_runs(warehouse: Database) -> None:
    pipeline = parse_pipeline((re.sub("interval: .*\n", "", SPEC) + NIGHTLY).encode(), "x")
    write_runs(warehouse, pipeline, "superseded", "published")
    with warehouse.writing() as connection:
        connection.execute(sa.update(runs).values(interval_start=None, interval_end=None, interval_key="snapshot"))

    well = read_status(warehouse, pipeline, day(2).end)
    late = read_status(warehouse, pipeline, day(4).end)

    assert strip(well)[-3:] == ["published", "published", "none"]
    assert well.needs == ()
    assert [need.kind for need in late.needs] == ["late"]


# --- the command --------------------------------------------------------------------------------


@pytest.fixture
def place(make_place: Callable[..., Place]) -> Place:
    return make_place(a_day=10)


def status(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["status", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_the_command_ends_with_one_if_something_needs_a_person(place: Place) -> None:
    code, told = status("card-risk.yaml")

    assert code == 1
    assert "card-risk: " in told
    assert "  penstock run card-risk" in told
    assert not re.search("penstock_runs", str(sa.inspect(place.warehouse.engine).get_table_names()))


def test_the_json_is_as_documented(place: Place) -> None:
    fill_ledger(place.warehouse, pipeline_of(), 1, parts=False)
    code, told = status("card-risk.yaml", "--json", "--timezone", "Asia/Tokyo")
    [found] = json.loads(told)["pipelines"]
    page = Path(__file__).parents[2].joinpath("docs/operations.md").read_text(encoding="utf-8")

    assert code == 1
    assert all(f"`{key}`" in page for key in (*found, *found["needs"][0], *found["week"][0]))
    assert found["last_published_at"].endswith("Z")
    assert len(found["week"]) == 7


def test_a_status_without_a_server_is_quick_and_imports_little(place: Place) -> None:
    fill_ledger(place.warehouse, pipeline_of(grain="15m"), TEN_YEARS, parts=False)
    place.spec.write_text(SPEC.replace("grain: 1d", "grain: 15m") + NIGHTLY)
    code = (
        "import sys\nfrom penstock.cli.app import app\n"
        "try: app(['status', 'card-risk.yaml', '--json'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('pandas', 'xgboost', 'prefect', 'great_expectations') if m in sys.modules])"
    )

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert done.stdout.rstrip().endswith("[]"), done.stdout[-200:]
    assert took < 8, took  # CPU seconds: 2 to 3 of a machine that does nothing else


def test_a_file_that_does_not_load_needs_a_person_and_the_others_are_shown(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_PIPELINES", str(place.folder / "many"))
    (place.folder / "many").mkdir()
    (place.folder / "many" / "card-risk.yaml").write_text(SPEC)
    (place.folder / "many" / "broken.yaml").write_text("name: broken\n")

    code, told = status()

    assert code == 1
    assert "card-risk" in told
    assert "broken.yaml cannot be read" in told


def test_a_warehouse_that_cannot_be_read_needs_a_person_and_the_others_are_shown(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_PIPELINES", str(place.folder / "many"))
    (place.folder / "many").mkdir()
    (place.folder / "many" / "card-risk.yaml").write_text(SPEC)
    other = SPEC.replace("name: card-risk", "name: other").replace("connection: warehouse", "connection: nowhere")
    (place.folder / "many" / "other.yaml").write_text(other)

    code, told = status()

    assert code == 1
    assert "penstock run card-risk" in told
    assert "other: its ledger cannot be read: connection `nowhere`" in " ".join(told.split())
    assert list(json.loads(status("--json")[1])["unread"]) == ["other"]


def test_an_unknown_pipeline_is_refused_with_the_nearest_name(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_PIPELINES", str(place.folder))
    code, told = status("card-rusk")

    assert code == 2
    assert "card-risk" in told


def test_everything_well_ends_with_zero(place: Place) -> None:
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    place.spec.write_text(re.sub("start: [^,}]*", f"start: {iso(hour - DAY)}", SPEC) + NIGHTLY)

    code, told = status("card-risk.yaml")

    assert code in (0, 1), told  # a day that has just ended may be late
