"""Pipeline specs: what is taken, what is refused and how it is told."""

import json
import pickle
from pathlib import Path

import pytest
from pydantic import ValidationError

from penstock.errors import PipelineNotFound, SpecError
from penstock.spec.json_schema import json_schema
from penstock.spec.pipeline import Pipeline
from penstock.spec.steps import ModelRef
from penstock.spec.yaml_file import find_pipeline_file, load_pipeline, parse_pipeline
from tests.shop import SPEC

SCHEMA = Path("deployments/pipelines/schema.json")
KIND = "kind: files, path: x.csv, format: csv}"


def problems(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        parse_pipeline(text.encode(), "x.yaml")
    return [str(p) for p in caught.value.problems]


def test_every_problem_is_told_at_once_with_line_key_and_nearest_name() -> None:
    text = SPEC.replace("connection: shop", "conection: shop").replace("partition_rows: 150", "partition_rows: 0")
    text = text.replace("expect_column_mean_to_be_between", "expect_column_mean_to_be_betwen") + "modle: x\n"

    told = problems(text)

    assert "line 5: `sources.payments.connection`: this key is missing from `sources.payments`" in told
    assert "line 7: `sources.payments.conection`: unknown key. Did you mean `connection`?" in told
    assert any("Did you mean `expect_column_mean_to_be_between`?" in t and t.startswith("line 17:") for t in told)
    assert any("`modle`: unknown key. Did you mean `model`?" in t for t in told)
    assert any("`partition_rows`" in t for t in told)


@pytest.mark.parametrize(
    ("text", "culprit"),
    [
        ("a: [1", "not YAML"),
        ("- a\n- b\n", "a pipeline is a mapping"),
        ("a: &x 1\nb: *x\n", "anchors and aliases"),
        ("name: a\nname: b\n", "stands twice"),
        ("a: " + "[" * 30 + "]" * 30, "nested deeper"),
        ("a: !!python/object:os.system x\n", "tags (`!`, `!!`) are not taken"),
        ("name: x\0y", "not YAML"),
    ],
)
def test_what_is_not_plain_yaml_is_refused(text: str, culprit: str) -> None:
    assert culprit in problems(text)[0]


def test_bytes_that_are_no_text_and_files_that_are_too_large_are_refused() -> None:
    for content in (b"\xff\xfe\x00", b"#" * 1_000_001):
        with pytest.raises(SpecError):
            parse_pipeline(content, "x.yaml")


@pytest.mark.parametrize(
    ("old", "new", "culprit"),
    [
        (
            "severity: warning}\n    - {type: expect_table",
            "severity: warning, mostly: 0.9}\n    - {type: expect_table",
            "quarantine_limit",
        ),
        ("min_value: 10}", "min_value: 10, severity: warning}", "cannot quarantine"),
        ("grain: 1d", "grain: 1 month", "not a duration"),
        ("  scores:", "  scorez:", "unknown stage `scorez`. Did you mean `scores`?"),
        ("key: [payment_id]", "key: []", "needs a `key:`"),
        ("  rates:", "  outputs:", "a source cannot be named `outputs`"),
        ("table: payments\n", "table: payments\n    query: select 1\n", "either `table` or `query`"),
        ("table: payments\n", f"table: {'ü' * 32}\n", "at most 63 bytes in UTF-8, and this one has 64"),
        ("keep: [amount,", f"keep: [{'ü' * 40},", "at most 63 bytes in UTF-8, and this one has 80"),
        ("model: card-risk@champion", "model: card-risk", "name@alias or name@version"),
        (KIND, "kind: files, path: x.csv, format: csv, every: 1d}", "`every` needs a path that contains the interval"),
        (KIND, "kind: files, path: '{interval_end}', format: csv, lookback: 1d}", "`lookback` reads whole files"),
        (KIND, "kind: files, path: x.json, format: json, text: [a]}", "`text` is for csv files"),
        (KIND, "kind: files, path: '{interval_end}', format: csv, every: 0d}", "`every` must be longer than zero"),
    ],
)
def test_a_wrong_meaning_is_told(old: str, new: str, culprit: str) -> None:
    spec = SPEC.replace("expectations:", f"  rates: {{{KIND}\nexpectations:", 1)
    assert old in spec
    assert any(culprit in told for told in problems(spec.replace(old, new)))


def test_yaml_words_that_look_like_other_things_stay_text() -> None:
    pipeline = parse_pipeline(SPEC.replace("keep: [amount, country]", "keep: [no, on, 012x]").encode(), "x")
    assert pipeline.destination.keep == ("no", "on", "012x")


def test_a_spec_is_frozen_survives_pickling_and_json_and_keeps_its_fingerprint() -> None:
    pipeline = parse_pipeline(SPEC.encode(), "x")

    assert pickle.loads(pickle.dumps(pipeline)) == pipeline
    again = Pipeline.model_validate(json.loads(pipeline.model_dump_json(by_alias=True)))
    assert again == pipeline
    assert again.fingerprint == pipeline.fingerprint


def test_the_fingerprint_ignores_defaults_and_order_and_sees_a_changed_bound() -> None:
    pipeline = parse_pipeline(SPEC.encode(), "x")
    spelled_out = parse_pipeline((SPEC + "quarantine_limit: 0.05\nempty: halt\n").encode(), "x")
    changed = parse_pipeline(SPEC.replace("min_value: 10}", "min_value: 11}").encode(), "x")

    assert spelled_out.fingerprint == pipeline.fingerprint
    assert changed.fingerprint != pipeline.fingerprint


def test_a_changed_copy_is_validated_and_has_nothing_of_the_original_left() -> None:
    pipeline = parse_pipeline(SPEC.encode(), "x")
    before = pipeline.fingerprint, pipeline.steps, pipeline.private_columns

    copy = pipeline.model_copy(update={"model": ModelRef(name="other", selector="1"), "private": {"note": "drop"}})

    assert [str(step.model) for step in copy.steps] == ["other@1"]
    assert copy.fingerprint != before[0]
    assert copy.private_columns == {"note": "drop"}
    assert (pipeline.fingerprint, pipeline.steps, pipeline.private_columns) == before
    assert pipeline.model_copy() == pipeline
    for update in ({"modle": None}, {"empty": "stop"}, {"model": None}):
        with pytest.raises(ValidationError):
            pipeline.model_copy(update=update)
    with pytest.raises(ValidationError, match="run_id"):
        pipeline.model_copy(update={"destination": pipeline.destination.model_copy(update={"keep": ("run_id",)})})
    assert pipeline.destination.model_copy(update={"schema_": "scores"}).schema_ == "scores"


def test_a_pipeline_is_found_by_name_and_by_path(tmp_path: Path) -> None:
    (tmp_path / "card-risk.yaml").write_text(SPEC)
    assert find_pipeline_file("card-risk", tmp_path) == find_pipeline_file(
        str(tmp_path / "card-risk.yaml"), Path("none")
    )
    with pytest.raises(PipelineNotFound, match=r"Did you mean `card-risk`\?"):
        find_pipeline_file("card-risc", tmp_path)


def test_every_shipped_spec_loads_and_the_json_schema_is_current() -> None:
    shipped = sorted(SCHEMA.parent.glob("*.yaml"))
    assert shipped
    assert [load_pipeline(path).name for path in shipped] == [path.stem for path in shipped]
    assert json.loads(SCHEMA.read_text()) == json.loads(json.dumps(json_schema())), (
        "run `penstock schema --output deployments/pipelines/schema.json`"
    )


def test_whom_to_notify_is_a_list_of_blocks_and_a_name_without_its_type_is_refused() -> None:
    told = SPEC + "notify: {on_halt: [custom-webhook/ops], on_failure: [custom-webhook/ops, sendgrid-email/ops]}\n"

    pipeline = parse_pipeline(told.encode(), "x.yaml")

    assert pipeline.notify.on_failure == ("custom-webhook/ops", "sendgrid-email/ops")
    refused = (
        "line 21: `notify.on_halt.0`: `ops` is not a block; write its type and its name, as in `custom-webhook/ops`"
    )
    assert problems(SPEC + "notify: {on_halt: [ops]}\n") == [refused]


def test_a_spec_that_notifies_nobody_keeps_the_fingerprint_it_had_before_there_was_such_a_key() -> None:
    body = parse_pipeline(SPEC.encode(), "x.yaml").model_dump(mode="json", exclude_defaults=True, by_alias=True)

    assert "notify" not in body
