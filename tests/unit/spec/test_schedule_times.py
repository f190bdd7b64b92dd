"""Schedules: what Prefect would refuse is refused by the spec, and with it by every command."""

import pytest
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule

from penstock.errors import SpecError
from penstock.spec.schedule_times import check_cron, check_rule
from penstock.spec.yaml_file import parse_pipeline
from penstock.timezones import check_timezone
from tests.shop import SPEC

RIGHT = [
    "15 2 * * *", "*/15 * * * *", "*/60 * * * *", "0 22-2 * * *", "0 0 * * fri-mon", "0 0 * * 5-1", "0 0 * nov-feb *",
    "0 0 l * *",
    "@daily", "@midnight", "@annually", "@hourly", "@weekly", "@monthly", "@yearly", "0 0 L * *", "0 0 * * 5#2",
    "0 0 * * mon#1", "0 0 * * L5", "0 0 ? * *", "0 0 * * ?", "5/10 * * * *", "1-5/2,7 * * * *", "0 0 * * 7",
    "0 0 * * SUN,Mon", "00 06 * * *", "0 0 29 2 *", "0 0 1,l * *", "*,5 * * * *", "0 0 31 2,4 1", "0 0 31 2,3 *",
    " 0 0 * * * ", "0\t0 * * *",
]  # fmt: skip
WRONG = {
    "": "has 0 fields",
    "* * * *": "has 4 fields; cron needs five",
    "* * * * * *": "has 6 fields",
    "@reboot": "is not a cron expression",
    "@dayly": "Did you mean `@daily`?",
    "60 * * * *": "minute `60`: 60 is not from 0 to 59",
    "0 24 * * *": "hour `24`: 24 is not from 0 to 23",
    "0 0 0 * *": "day of month `0`",
    "0 0 32 * *": "day of month `32`",
    "0 0 1 13 *": "month `13`: 13 is not from 1 to 12",
    "0 0 * january *": "month `january`: write numbers from 1 to 12, or dec and its like",
    "0 0 * * 8": "day of week `8`",
    "0 0 * * 1#6": "day of week `1#6`",
    "*/0 * * * *": "a step is a whole number from 1 to 60",
    "*/90 * * * *": "a step is a whole number from 1 to 60",
    "*/5-10 * * * *": "a step is",
    "-1 * * * *": "minute `-1`",
    "1,,2 * * * *": "minute `1,,2`",
    "a * * * *": "minute `a`",
    "H * * * *": "minute `h`",
    "R * * * *": "minute `r`",
    "? * * * *": "minute `?`",
    "0 0 15W * *": "day of month `15w`",
    "1-2-3 * * * *": "minute `1-2-3`",
    "٣ * * * *": "minute",
    "0 0 30 2 *": "never comes, since none of its months has a day 30",
    "0 0 31 apr,jun *": "never comes",
}
RULES = [
    "FREQ=WEEKLY;BYDAY=MO;BYHOUR=6;BYMINUTE=0",
    "RRULE:FREQ=DAILY",
    "DTSTART:20260101T000000\nRRULE:FREQ=DAILY;COUNT=3",
]
WRONG_RULES = [
    "",
    "weekly",
    "FREQ=WEEKELY",
    "FREQ=WEEKLY;BYDAY=XX",
    "BYDAY=MO",
    "FREQ=DAILY;INTERVAL=x",
    "FREQ=DAILY;;",
    "FREQ",
]


@pytest.mark.parametrize("cron", RIGHT)
def test_a_right_cron_is_taken_and_prefect_takes_it_too(cron: str) -> None:
    check_cron(cron)
    CronSchedule(cron=cron)


@pytest.mark.parametrize("cron", WRONG)
def test_a_wrong_cron_is_refused_with_its_field(cron: str) -> None:
    with pytest.raises(ValueError, match="`") as caught:
        check_cron(cron)

    assert WRONG[cron] in str(caught.value)


@pytest.mark.parametrize("rule", RULES)
def test_a_right_rule_is_taken_and_prefect_takes_it_too(rule: str) -> None:
    check_rule(rule)
    RRuleSchedule(rrule=rule)


@pytest.mark.parametrize("rule", [*WRONG_RULES, f"FREQ=DAILY;BYHOUR={','.join(['1'] * 4000)}"])
def test_a_wrong_rule_is_refused(rule: str) -> None:
    with pytest.raises(ValueError, match="rule"):
        check_rule(rule)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Paris", "Etc/GMT+1", "America/Argentina/Buenos_Aires"])
def test_a_right_time_zone_is_taken_and_prefect_takes_it_too(zone: str) -> None:
    check_timezone(zone)
    CronSchedule(cron="@daily", timezone=zone)
    RRuleSchedule(rrule="FREQ=DAILY", timezone=zone)
    IntervalSchedule(interval=60, timezone=zone)


@pytest.mark.parametrize(
    "zone", ["Europe", "Europe/Pariss", "europe/paris", "GMT+1", "", "../x", "/etc/x", "a\0b", "x" * 300]
)
def test_a_wrong_time_zone_is_refused(zone: str) -> None:
    with pytest.raises(ValueError, match="there is no time zone"):
        check_timezone(zone)


@pytest.mark.parametrize(
    ("schedule", "problem"),
    [
        ("{cron: 60 * * * *}", "line 21: `schedule.cron`: minute `60`: 60 is not from 0 to 59"),
        ("{rrule: FREQ=SOMETIMES}", "line 21: `schedule.rrule`: `FREQ=SOMETIMES` is not a rule"),
        ("{interval: 0m}", "line 21: `schedule.interval`: the time between two runs must be longer than zero"),
        (
            "{cron: '@daily', timezone: Europe}",
            "line 21: `schedule.timezone`: there is no time zone `Europe`; write it as in `Europe/Paris`",
        ),
        ("{cron: '@daily', timezone: Europe/Pariss}", "Did you mean `Europe/Paris`?"),
    ],
)
def test_a_wrong_schedule_is_a_problem_of_the_spec_with_its_line(schedule: str, problem: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_pipeline(f"{SPEC}schedule: {schedule}\n".encode(), "x.yaml")

    assert problem in str(caught.value)
