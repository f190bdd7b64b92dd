"""`penstock check` on sample rows: expectations, refused rows, a range, names of classes, and how it sums up."""

import json
from collections.abc import Callable

import numpy as np
import pytest
import sqlalchemy as sa
import xgboost as xgb
from typer.testing import CliRunner

from penstock.api.project import Project
from penstock.cli.app import app
from penstock.database.connections import Database
from penstock.errors import DestinationMismatch
from penstock.spec.yaml_file import load_pipeline
from penstock.tasks.process_resources import settings
from tests.conftest import DIALECTS
from tests.shop import Place, payments

MEAN = "{type: expect_column_mean_to_be_between, column: score, min_value: 0.0001, max_value: 0.9999}"


@pytest.fixture
def place(make_place: Callable[..., Place]) -> Place:
    return make_place(a_day=60)


def check(*arguments: str, exit_code: int = 0) -> list[str]:
    ended = CliRunner().invoke(app, ["check", "card-risk.yaml", *arguments])
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    assert ended.exit_code == exit_code, ended.output
    return [line.strip() for line in ended.output.splitlines()]


def change(database: Database, statement: str) -> None:
    with database.writing() as connection:
        connection.execute(sa.text(statement))


def respec(place: Place, old: str, new: str) -> None:
    assert old in place.spec.read_text()
    place.spec.write_text(place.spec.read_text().replace(old, new))


def test_a_pipeline_that_runs_is_all_well_and_its_expectations_were_tried(place: Place) -> None:
    told = check("--end", "2026-01-02")

    assert "✓ expectations: 4 can be evaluated" in told
    assert "✓ source `payments`: 60 rows of 2026-01-01 → 01-02 read as a sample" in told
    assert told[-1] == "1 pipeline checked: all well"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_range_chooses_the_interval_of_the_sample(make_place: Callable[..., Place], dialect: str) -> None:
    make_place(dialect, dialect, a_day=60)

    assert any(
        "60 rows of 2026-01-02 → 01-03 read" in line for line in check("--start", "2026-01-01", "--end", "2026-01-03")
    )
    assert any("60 rows of 2026-01-01 → 01-02 read" in line for line in check("--end", "2026-01-01T05:00"))


def test_a_range_without_an_interval_is_refused(place: Place) -> None:
    told = check("--start", "2025-01-01", "--end", "2025-06-01", exit_code=2)

    assert (
        "✗ range: no interval of `card-risk` that is over touches the range. Give another --start and --end" in told[1]
    )
    assert told[-1] == "1 pipeline checked: 1 problem"


def test_a_few_refused_rows_are_noted(place: Place) -> None:
    change(place.shop, "update payments set amount = null where payment_id in (3)")

    told = check("--end", "2026-01-02")

    assert any(
        line.startswith("• expectations: 1 of 60 sample rows would be quarantined, as payments") for line in told
    )
    assert told[-1] == "1 pipeline checked: all well"


def test_more_refused_rows_of_a_whole_interval_than_the_limit_are_a_problem(place: Place) -> None:
    change(place.shop, "update payments set amount = null where payment_id <= 10")

    told = check("--end", "2026-01-02", exit_code=1)

    assert any("10 of 60 sample rows would be quarantined" in line and "The run would halt" in line for line in told)
    assert told[-1] == "1 pipeline checked: 1 problem"


def test_a_part_of_an_interval_above_the_limit_is_a_warning_and_all_of_it_a_problem(
    make_place: Callable[..., Place],
) -> None:
    place = make_place(a_day=300)
    change(place.shop, "update payments set amount = null where payment_id <= 150")
    part = check("--end", "2026-01-02")
    found = json.loads("\n".join(check("--end", "2026-01-02", "--json")))
    change(place.shop, "update payments set amount = null where payment_id <= 250")
    whole = check("--end", "2026-01-02", exit_code=1)

    assert any(line.startswith("! expectations: 150 of 200 sample rows") for line in part)
    assert any(line.startswith("✗ expectations: 200 of 200 sample rows") for line in whole)
    assert part[-1] == "1 pipeline checked: 1 warning"
    assert whole[-1] == "1 pipeline checked: 1 problem"
    assert [r["state"] for r in found[0]["results"] if r["state"] not in ("ok", "note")] == ["warning"]


def test_rows_without_a_time_are_a_warning(place: Place) -> None:
    change(place.shop, "update payments set created_at = null where payment_id > 150")

    told = check("--end", "2026-01-02")

    assert any(line.startswith("! source `payments`: 30 rows have no `created_at`") for line in told)
    assert told[-1] == "1 pipeline checked: 1 warning"


def test_rows_that_the_model_refuses_are_counted_too(place: Place) -> None:
    change(place.shop, "update payments set country = 'Nowhere'")

    told = check("--end", "2026-01-02", exit_code=1)

    assert any(line.startswith("✗ model: 60 of 60 sample rows would be quarantined") for line in told)


def test_a_critical_expectation_that_fails_is_a_problem(place: Place) -> None:
    respec(place, "column: amount, min_value: 0, severity: warning", "column: amount, max_value: 0.5")

    told = check("--end", "2026-01-02", exit_code=1)

    assert any("✗ expectations: payments: amount column_values_to_be_between" in line for line in told)
    assert any("It is critical, so the run would halt" in line for line in told)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (MEAN, "{type: expect_column_mean_to_be_between, column: country, min_value: 1}"),
        ("column: amount, min_value: 0,", "column: country, min_value: 0,"),
    ],
)
def test_an_expectation_that_cannot_be_judged_on_a_type_is_found(place: Place, old: str, new: str) -> None:
    respec(place, old, new)

    told = check("--end", "2026-01-02", exit_code=2)

    assert any("country" in line and "cannot be judged" in line for line in told), told


def test_classes_that_differ_only_in_case_are_refused_by_check_and_by_the_run(place: Place) -> None:
    rows = payments(days=1, a_day=90).select(["amount", "items"])
    matrix = xgb.DMatrix(rows.to_pandas(), label=np.arange(90) % 3)
    booster = xgb.train({"objective": "multi:softprob", "num_class": 3, "max_depth": 2}, matrix, 2)
    booster.save_model(place.folder / "classes.ubj")
    place.registry.register("classes", place.folder / "classes.ubj", rows, "champion", classes=("A", "a", "b"))
    respec(place, "model: card-risk@champion", "model: classes@champion")
    respec(place, MEAN, MEAN.replace("column: score", "column: score_b"))
    spec = load_pipeline(place.spec)

    told = check("--end", "2026-01-02", exit_code=1)
    with pytest.raises(DestinationMismatch, match="`score_A` differs from `score_a` only in case"):
        Project().score_interval(spec, Project().plan(spec).intervals[0])

    assert any(line.startswith("✗ destination: `score_A` differs from `score_a` only in case") for line in told), told


def test_a_suite_of_great_expectations_is_tried_and_what_it_becomes_is_noted(place: Place) -> None:
    suite = {
        "name": "payments",
        "expectations": [
            {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "amount"}, "severity": "warning"},
            {"type": "expect_column_mean_to_be_between", "kwargs": {"column": "amount", "min_value": 1}},
            {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1}, "severity": "warning"},
        ],
    }
    (place.folder / "payments.json").write_text(json.dumps(suite))
    spec = place.spec.read_text()
    start, end = spec.index("  payments:\n    - {type"), spec.index("  scores:\n")
    place.spec.write_text(f"{spec[:start]}  payments: {{suite: payments.json}}\n{spec[end:]}")

    told = check("--end", "2026-01-02")

    assert "✓ expectations: 4 can be evaluated" in told
    assert "• expectations: payments: payments.json: 1 are judged by row, 2 in the audit, of the whole interval" in told
    [changed] = [line for line in told if "`warning` is `info`" in line]
    assert "table_row_count_to_be_between (min_value=1): it judges the interval as a whole" in changed


def test_check_says_who_judges_the_rows(place: Place) -> None:
    told = check("--end", "2026-01-02")
    assert any(line.startswith("• expectations: by row: ") and line.endswith(" judged by DuckDB") for line in told), (
        told
    )

    regex = '{type: expect_column_values_to_match_regex, column: country, regex: "^(?!x)"}'
    respec(place, "  payments:\n    - {type", f"  payments:\n    - {regex}\n    - {{type")
    told = check("--end", "2026-01-02")

    [note] = [line for line in told if line.startswith("• expectations: by row: ")]
    assert "judged by DuckDB, 1 by Great Expectations: payments: country column_values_to_match_regex" in note


def test_a_database_that_the_tests_do_not_read_is_noted(place: Place) -> None:
    sa.dialects.registry.register("oddbase", "tests.oddbase", "OddDialect")
    url = str(place.shop.url).replace("sqlite", "oddbase", 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PENSTOCK_CONNECTIONS__SHOP", url)
        settings.cache_clear()
        told = check("--end", "2026-01-02")

    [note] = [line for line in told if "not tested" in line]
    assert note.startswith("• source `payments`: Penstock is not tested with oddbase: its rows are read as SQLAlchemy")


def test_a_pipeline_that_cannot_be_served_is_a_problem_where_its_spec_has_serve(place: Place) -> None:
    slow = "    - {type: expect_column_values_to_be_dateutil_parseable, column: country, severity: warning}\n"
    respec(place, "partition_rows: 150", "serve: {}\npartition_rows: 150")
    assert "✓ serve: its row expectations can be judged within a request" in check()

    respec(place, "  payments:\n    - {type", f"  payments:\n{slow}    - {{type")
    told = "\n".join(check(exit_code=2))

    assert "✗ serve: `card-risk` cannot be served: `country column_values_to_be_dateutil_parseable" in told
    respec(place, "serve: {}\n", "")
    assert "serve:" not in "\n".join(check(exit_code=1))
