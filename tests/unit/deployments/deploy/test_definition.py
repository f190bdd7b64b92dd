"""What a pipeline's deployment is."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule

from penstock.deployments.deploy.definition import (
    Definition,
    define_deployment,
    describe_pipeline,
    pull_steps,
    recorded_folder,
)
from penstock.errors import SpecError
from penstock.spec.pipeline import Pipeline
from penstock.spec.yaml_file import parse_pipeline
from tests.project import CRON, INTERVAL, RRULE
from tests.shop import SPEC


def read(*lines: str) -> Pipeline:
    return parse_pipeline("\n".join([SPEC, *lines]).encode(), "card-risk.yaml")


def define(*lines: str) -> Definition:
    return define_deployment(read(*lines), "card-risk.yaml")


def test_a_cron_schedule_keeps_its_time_zone() -> None:
    assert define(CRON).schedule == CronSchedule(cron="15 2 * * *", timezone="Europe/Paris")


def test_an_interval_begins_at_a_fixed_midnight_of_its_zone_whenever_it_is_deployed() -> None:
    schedule = define(INTERVAL).schedule

    assert isinstance(schedule, IntervalSchedule)
    assert schedule.interval == timedelta(hours=6)
    assert schedule.anchor_date == datetime(2024, 1, 1, 5, tzinfo=UTC)


def test_a_recurrence_rule_keeps_its_time_zone() -> None:
    assert define(RRULE).schedule == RRuleSchedule(rrule="FREQ=WEEKLY;BYDAY=MO,WE", timezone="Asia/Tokyo")


def test_a_pipeline_without_schedule_has_none() -> None:
    assert define().schedule is None


@pytest.mark.parametrize(
    ("schedule", "where"),
    [('{cron: "61 2 * * *"}', r"`schedule\.cron`"), ("{rrule: 'FREQ=OFTEN'}", r"`schedule\.rrule`")],
)
def test_a_schedule_that_prefect_cannot_read_is_a_problem_of_the_spec(schedule: str, where: str) -> None:
    with pytest.raises(SpecError, match=rf"card-risk\.yaml: .*\n.*{where}"):
        define(f"schedule: {schedule}")


def test_the_version_changes_with_the_spec_and_only_with_it() -> None:
    assert define().version == define().version
    assert define().version != define("description: Risk of cards").version


def test_the_description_shows_the_way_of_the_rows() -> None:
    told = describe_pipeline(read("description: Risk of cards"))

    assert told.splitlines()[0] == "Risk of cards"
    assert "payments  shop: payments\n  ↓\nscore     model card-risk@champion\n  ↓\ntable     warehouse:" in told


def test_the_intervals_of_a_pipeline_are_described_in_its_zone() -> None:
    monthly = "{column: created_at, grain: month, timezone: Europe/Berlin, start: 2026-03-01T00:00, delay: 2h}"
    text = re.sub(r"(?m)^interval: .*$", f"interval: {monthly}", SPEC)

    told = describe_pipeline(parse_pipeline(text.encode(), "card-risk.yaml"))

    assert "all due intervals of 1d, from 2026-01-01T00:00:00Z, each 0m after its end." in describe_pipeline(read())
    start = "2026-03-01T00:00:00+01:00"
    assert f"all due intervals of 1 month in Europe/Berlin, from {start}, each 2h after its end." in told


def test_the_project_folder_is_found_again_in_the_pull_steps() -> None:
    assert recorded_folder(pull_steps("/srv/project")) == "/srv/project"
    assert recorded_folder([{"prefect.deployments.steps.git_clone": {"repository": "x"}}]) is None
