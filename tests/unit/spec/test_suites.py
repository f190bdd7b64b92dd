"""Suites that Great Expectations wrote, as a spec's expectations."""

import json
from pathlib import Path
from typing import Any

import pytest

from penstock.errors import SpecError
from penstock.spec.pipeline import Pipeline
from penstock.spec.suites import MAX_BYTES
from penstock.spec.yaml_file import load_pipeline

SPEC = """
name: card-risk
sources:
  payments: {kind: sql, connection: shop, table: payments, key: [payment_id]}
  rates: {kind: sql, connection: shop, table: rates, key: [country]}
expectations:
  payments: {suite: suites/payments.json}
model: card-risk@champion
destination: {table: card_risk_scores}
"""
NOT_NULL = {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "amount"}}


def write(folder: Path, *entries: Any, spec: str = SPEC, **more: Any) -> Path:
    """Write a spec with a suite beside it. Return the spec's file."""
    (folder / "suites").mkdir(exist_ok=True)
    suite = {"name": "payments", "expectations": list(entries), "meta": {}} | more
    (folder / "suites/payments.json").write_text(json.dumps(suite))
    file = folder / "card-risk.yaml"
    file.write_text(spec)
    return file


def refused(file: Path) -> str:
    with pytest.raises(SpecError) as error:
        load_pipeline(file)
    return str(error.value)


def test_a_suite_that_the_installed_library_wrote_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GX_ANALYTICS_ENABLED", "false")
    import great_expectations as gx
    from great_expectations import expectations as gxe

    written = [
        gxe.ExpectColumnValuesToNotBeNull(column="amount", severity="warning", notes="of the desk", meta={"by": "x"}),
        gxe.ExpectColumnValuesToBeBetween(column="amount", min_value=0, max_value=100.5, strict_min=True, mostly=0.9),
        gxe.ExpectColumnValuesToBeInSet(column="country", value_set=["DE", "FR"], severity="info"),
        gxe.ExpectColumnMeanToBeBetween(column="amount", min_value=1, max_value=9),
        gxe.ExpectColumnQuantileValuesToBeBetween(
            column="amount", quantile_ranges={"quantiles": [0.5], "value_ranges": [[0, 10]]}
        ),
        gxe.ExpectTableRowCountToBeBetween(min_value=1),
        gxe.ExpectTableColumnsToMatchSet(column_set=["amount", "country"], exact_match=False),
    ]
    suite = gx.ExpectationSuite(name="payments", expectations=written)
    file = write(tmp_path)
    (tmp_path / "suites/payments.json").write_text(json.dumps(suite.to_json_dict()))

    read = load_pipeline(file).expectations_of("payments")

    assert [(e.type, e.severity) for e in read] == [(e.expectation_type, e.severity) for e in written]
    for ours, theirs in zip(read, written, strict=True):
        again = theirs.configuration.kwargs
        assert ours.arguments == {k: v for k, v in json.loads(json.dumps(again)).items() if v is not None}
    assert [e.is_row for e in read] == [True, True, True, False, False, False, False]
    assert [e.note for e in read] == [""] * 7


def test_the_content_of_a_suite_belongs_to_the_fingerprint_and_its_notes_do_not(tmp_path: Path) -> None:
    before = load_pipeline(write(tmp_path, NOT_NULL)).fingerprint

    assert load_pipeline(write(tmp_path, NOT_NULL | {"notes": "why", "id": "7"}, notes="x")).fingerprint == before
    assert load_pipeline(write(tmp_path, NOT_NULL | {"severity": "info"})).fingerprint != before
    other = {"type": NOT_NULL["type"], "kwargs": {"column": "country"}}
    assert load_pipeline(write(tmp_path, NOT_NULL, other)).fingerprint != before
    written_out = SPEC.replace("{suite: suites/payments.json}", f"[{{type: {NOT_NULL['type']}, column: amount}}]")
    assert load_pipeline(write(tmp_path, spec=written_out)).fingerprint == before


def test_the_path_starts_at_the_folder_of_the_spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, NOT_NULL)
    monkeypatch.chdir("/")

    assert len(load_pipeline(file).expectations_of("payments")) == 1


@pytest.mark.parametrize(
    ("entry", "severity", "note"),
    [
        (NOT_NULL, "critical", ""),
        (NOT_NULL | {"severity": "warning"}, "warning", ""),
        (NOT_NULL | {"severity": "warning", "kwargs": {"column": "amount", "mostly": 1.0}}, "warning", ""),
        (
            NOT_NULL | {"severity": "warning", "kwargs": {"column": "amount", "mostly": 0.9}},
            "info",
            "`mostly` allows some rows to fail, so `warning` is `info` and quarantines none",
        ),
        (
            {"type": "expect_table_row_count_to_equal", "kwargs": {"value": 3}, "severity": "warning"},
            "info",
            "it judges the interval as a whole and cannot quarantine rows, so `warning` is `info`",
        ),
        (
            NOT_NULL | {"kwargs": {"column": "amount", "result_format": "SUMMARY", "catch_exceptions": False}},
            "critical",
            "`catch_exceptions`, `result_format` left out",
        ),
    ],
)
def test_severities_are_mapped_and_changes_are_noted(
    tmp_path: Path, entry: dict[str, Any], severity: str, note: str
) -> None:
    [read] = load_pipeline(write(tmp_path, entry)).expectations_of("payments")

    assert (read.severity, read.note, read.suite) == (severity, note, "suites/payments.json")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"type": "expect_column_values_to_be_of_type", "kwargs": {"column": "a", "type_": "int"}},
            "with its contract",
        ),
        ({"type": "expect_my_own", "kwargs": {}}, "Penstock cannot judge it; take it out"),
        ({"type": "unexpected_rows_expectation", "kwargs": {"unexpected_rows_query": "q"}}, "it is a query"),
        (NOT_NULL | {"kwargs": {"column": "a", "row_condition": "b > 1"}}, "choose the rows in the source's `query:`"),
        (NOT_NULL | {"kwargs": {"column": "a", "windows": []}}, "it compares with earlier validations"),
        (NOT_NULL | {"kwargs": {"column": "a", "mosty": 0.5}}, "Did you mean `mostly`"),
        (NOT_NULL | {"kwargs": {"column": "a", "mostly": {"$PARAMETER": "m"}}}, r"\$PARAMETER"),
        (NOT_NULL | {"kwargs": {}}, "[Ff]ield required"),
        (NOT_NULL | {"severity": "loud"}, "`severity` is one of critical, warning, info"),
        ({"kwargs": {}}, "it has no `type`"),
        ("x", "it has no `type`"),
        ({"type": NOT_NULL["type"]}, "it has no `kwargs`"),
    ],
)
def test_what_a_spec_cannot_have_is_refused_by_name_with_the_line_of_the_suite(
    tmp_path: Path, entry: Any, message: str
) -> None:
    import re

    told = refused(write(tmp_path, NOT_NULL, entry))

    assert re.search(message, told), told
    assert "`suites/payments.json`, expectation 2: " in told
    assert ":7" in told or "line 7" in told, told


def test_all_problems_of_a_suite_are_named_at_once(tmp_path: Path) -> None:
    told = refused(write(tmp_path, {"type": "expect_a", "kwargs": {}}, NOT_NULL, {"type": "expect_b", "kwargs": {}}))

    assert "expectation 1: `expect_a`" in told
    assert "expectation 3: `expect_b`" in told


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "no suite of Great Expectations"),
        ('{"expectations": []}', "has no expectations"),
        (
            '{"expectation_suite_name": "x", "expectations": [{"expectation_type": "expect_x", "kwargs": {}}]}',
            "format of Great Expectations 0.x",
        ),
        (" " * (MAX_BYTES + 1), "larger than"),
        (None, "No such file"),
    ],
)
def test_a_file_that_is_no_suite_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    file = write(tmp_path, NOT_NULL)
    suite = tmp_path / "suites/payments.json"
    if content is None:
        suite.unlink()
    else:
        suite.write_text(content)

    assert message in refused(file)


@pytest.mark.parametrize("wrong", ["{suite: 1}", "{suite: a.json, severity: info}", "{}", "{file: a.json}"])
def test_a_suite_stands_alone(tmp_path: Path, wrong: str) -> None:
    spec = SPEC.replace("{suite: suites/payments.json}", wrong)

    assert "write a list of expectations here, or `{suite: payments.json}` alone" in refused(write(tmp_path, spec=spec))


def test_a_whole_interval_expectation_of_another_source_is_refused(tmp_path: Path) -> None:
    entry = {"type": "expect_table_row_count_to_equal", "kwargs": {"value": 3}}
    spec = SPEC.replace("  payments: {suite:", "  rates: {suite:")

    assert "the whole-interval expectations judge the primary source" in refused(write(tmp_path, entry, spec=spec))


def test_a_pipeline_with_a_suite_can_be_copied_and_written(tmp_path: Path) -> None:
    pipeline = load_pipeline(write(tmp_path, NOT_NULL))

    assert pipeline.model_copy(update={"description": "x"}).expectations == pipeline.expectations
    again = Pipeline.model_validate(pipeline.model_dump(mode="json", by_alias=True, exclude_defaults=True))
    assert again.fingerprint == pipeline.fingerprint
