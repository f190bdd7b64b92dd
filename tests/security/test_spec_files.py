"""A pipeline file that was made to do harm is refused early: in bounded time, with a clear and short error."""

import os
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.errors import PipelineNotFound, SpecError
from penstock.spec.yaml_file import MAX_BYTES, find_pipeline_file, load_pipeline, parse_pipeline
from tests.shop import SPEC

HEAD = SPEC.split("expectations:")[0]
TAIL = "model: card-risk@champion\ndestination: {table: scores}\n"
SECONDS = 30.0
"""Far above the one to five seconds that they take, far below what they took: minutes."""


def with_expectations(count: int, kind: str) -> str:
    lines = (f"    - {{type: {kind.format(number)}, column: a}}\n" for number in range(count))
    return f"{HEAD}expectations:\n  payments:\n{''.join(lines)}{TAIL}"


def lines_of_bomb() -> str:
    levels = [
        f"{name}: &{name} [{', '.join(['*' + before] * 9)}]" for before, name in zip("abcdefg", "bcdefgh", strict=True)
    ]
    return "\n".join(['a: &a ["x"]', *levels])


HARMFUL: dict[str, tuple[Callable[[], str | bytes], str]] = {
    "alias bomb": (lines_of_bomb, "anchors and aliases"),
    "flow nesting": (lambda: "[" * 900_000, "nested deeper than 20 levels"),
    "mapping nesting": (lambda: "{a: " * 200_000, "nested deeper than 20 levels"),
    "block nesting": (lambda: "\n".join(" " * depth + "a:" for depth in range(1200)), "nested deeper than 20 levels"),
    "100,000 expectations": (lambda: with_expectations(100_000, "expect_x{}"), "larger than 1,000,000 bytes"),
    "as many as fit": (lambda: with_expectations(20_000, "expect_x{}"), "more than 20,000 values and keys"),
    "3,000 unknown expectations": (lambda: with_expectations(3000, "expect_x{}"), "and 2,950 more problems"),
    "9,000 unknown keys": (lambda: SPEC + "".join(f"k{n}: 1\n" for n in range(9000)), "and 8,950 more problems"),
    "9,000 duplicate keys": (lambda: SPEC + "name: x\n" * 9000, "this key stands twice"),
    "10 MB string": (lambda: "a: " + "x" * 10_000_000, "larger than 1,000,000 bytes"),
    "long unknown key": (lambda: SPEC + "x" * 1000 + ": 1\n", "unknown key"),
    "long expectation type": (lambda: SPEC.replace("expect_column_mean_to_be_between", "x" * 100_000), "unknown expec"),
    "object tag": (lambda: "a: !!python/object/apply:os.system [id]", "tags (`!`, `!!`) are not taken"),
    "tag that cannot be read": (lambda: "a: !!int abc", "tags (`!`, `!!`) are not taken"),
    "own tag": (lambda: "a: !env SECRET", "tags (`!`, `!!`) are not taken"),
    "number of 5,000 digits": (lambda: SPEC.replace("rows: 150", "rows: " + "9" * 5000), "too long to be read"),
    "duplicate key": (lambda: SPEC + "name: other\n", "`name`: this key stands twice"),
    "duplicate key in flow style": (lambda: "a: {b: 1, b: 2}", "`a.b`: this key stands twice"),
    "second document": (lambda: f"{SPEC}\n---\n{SPEC}", "this is not YAML"),
    "NUL": (lambda: SPEC + "\0", "this is not YAML"),
    "UTF-16": (lambda: SPEC.encode("utf-16"), "is not UTF-8 text"),
    "not UTF-8": (lambda: SPEC.encode() + b"\xff", "is not UTF-8 text"),
}


@pytest.mark.parametrize("harm", HARMFUL)
def test_a_harmful_file_is_refused_early_and_told_in_few_words(harm: str) -> None:
    make, told = HARMFUL[harm]
    content = make()
    begun = time.monotonic()

    with pytest.raises(SpecError) as refused:
        parse_pipeline(content if isinstance(content, bytes) else content.encode(), "x.yaml")

    assert told in str(refused.value)
    assert time.monotonic() - begun < SECONDS
    assert len(str(refused.value)) < 40_000


def test_a_byte_order_mark_is_no_harm() -> None:
    assert parse_pipeline(b"\xef\xbb\xbf" + SPEC.encode(), "x.yaml") == parse_pipeline(SPEC.encode(), "x.yaml")


def test_of_a_file_of_ten_gigabytes_only_the_first_megabyte_is_read(tmp_path: Path) -> None:
    file = tmp_path / "huge.yaml"
    with file.open("wb") as handle:
        handle.truncate(10 * 2**30)  # a hole: it takes no room

    tracemalloc.start()
    try:
        with pytest.raises(SpecError, match="larger than"):
            load_pipeline(file)
        assert tracemalloc.get_traced_memory()[1] < 10 * MAX_BYTES
    finally:
        tracemalloc.stop()


def test_a_pipe_or_a_device_is_no_pipeline_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")

    for named in ("pipe", str(tmp_path / "pipe.yaml"), "/dev/zero"):
        with pytest.raises(PipelineNotFound):
            find_pipeline_file(named, tmp_path)


@pytest.mark.parametrize(
    "path",
    [
        "lake/{interval_start.__class__.__mro__}.csv",
        "lake/{interval_start!r:>1000000000}.csv",
        "lake/{interval_start!s}.csv",
        "lake/{0}.csv",
        "lake/{}.csv",
        "lake/{other}.csv",
        "lake/{interval_start:{interval_end}}.csv",
        "lake/{interval_start",
        "lake/}.csv",
    ],
)
def test_a_files_path_holds_nothing_but_the_interval(path: str) -> None:
    spec = SPEC.replace("kind: sql", "kind: files").replace("connection: shop", f"path: '{path}'")
    spec = spec.replace("    table: payments\n", "    format: csv\n").replace("    updated_column: updated_at\n", "")

    with pytest.raises(SpecError, match=r"interval_start:%Y-%m-%d"):
        parse_pipeline(spec.encode(), "x.yaml")
