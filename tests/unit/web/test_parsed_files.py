"""Pipeline files that are parsed once, and what makes them be parsed anew."""

import json
import os
from pathlib import Path

import pytest

from penstock.errors import SpecError
from penstock.web.parsed_files import ParsedFiles
from tests.shop import SPEC


def test_a_file_is_parsed_anew_only_after_a_change(tmp_path: Path) -> None:
    file, files = tmp_path / "card-risk.yaml", ParsedFiles()
    file.write_text(SPEC)
    first = files.load(file)
    assert files.load(file) is first

    stamp = file.stat().st_mtime_ns
    file.write_text(SPEC.replace("lookback: 3", "lookback: 4"))
    os.utime(file, ns=(stamp, stamp))  # as long and as old as before
    changed = files.load(file)
    assert changed.interval is not None
    assert changed.interval.lookback == 4

    file.write_text("name: [")
    for _ in range(2):
        with pytest.raises(SpecError):
            files.load(file)


def test_the_pipeline_of_a_file_that_is_gone_is_dropped(tmp_path: Path) -> None:
    file, other, files = tmp_path / "card-risk.yaml", tmp_path / "other.yaml", ParsedFiles()
    for each in (file, other):
        each.write_text(SPEC)
    first, second = files.load(file), files.load(other)

    files.drop_others([other])

    assert files.load(file) is not first
    assert files.load(other) is second


@pytest.mark.parametrize("key", ["suite", r'"su\x69te"'])
def test_a_change_of_a_suite_is_seen(tmp_path: Path, key: str) -> None:
    file, suite, files = tmp_path / "card-risk.yaml", tmp_path / "payments.json", ParsedFiles()
    entry = {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "amount"}}
    head, tail = SPEC.split("  payments:\n    - ", 1)
    file.write_text(f"{head}  payments: {{{key}: payments.json}}\n  scores:{tail.split('  scores:', 1)[1]}")
    seen = []
    for column in ("amount", "items"):
        entry["kwargs"] = {"column": column}
        suite.write_text(json.dumps({"name": "payments", "expectations": [entry]}))
        seen.append(files.load(file).expectations["payments"][0].arguments["column"])

    assert seen == ["amount", "items"]
