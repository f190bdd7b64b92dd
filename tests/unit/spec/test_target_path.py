"""The path of a target of files: its fields, and what is refused."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from penstock.interval import DataInterval
from penstock.spec.deliver import AnyTarget
from penstock.spec.target_path import TargetPath, find_shared

RUN = "0" * 31 + "a"
DAY = DataInterval(datetime(2026, 1, 31, 23, tzinfo=UTC), datetime(2026, 2, 1, 23, tzinfo=UTC), "Europe/Berlin")


def test_a_folder_has_the_times_of_the_interval_in_its_zone() -> None:
    path = TargetPath("s3://lake/scores/{interval_start:%Y/%m/%d}/{run_id}")
    path.check()
    assert path.root == "s3://lake/scores"
    assert path.folder(DAY, RUN) == f"2026/02/01/{RUN}"
    assert path.pattern.fullmatch(path.folder(DAY, RUN))
    assert not path.pattern.fullmatch("2026/02/01/photos")
    assert path.names_interval


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("out/{interval_start:%Y}", "needs `{run_id}`"),
        ("out/{day}/{run_id}", "has the field `{day}`"),
        ("out/{interval_start}/{run_id}", "needs a format of"),
        ("out/{interval_start:%A}/{run_id}", "needs a format of"),
        ("out/{interval_start:../%Y}/{run_id}", "a part `.` or `..`"),
        ("out/{run_id:x}", "takes no format"),
        ("out/{run_id", "a brace in the path"),
        ("out/../{run_id}", "a part `.` or `..`"),
        ("../{run_id}", "a part `.` or `..`"),
        ("s3://lake/a/../{run_id}", "a part `.` or `..`"),
        ("out//{run_id}", "an empty part"),
        ("out/*/{run_id}", "a wildcard"),
        ("{run_id}", "needs a folder"),
        ("s3:///{run_id}", "names no bucket"),
        ("s3://{run_id}", "names no bucket"),
        ("https://lake/{run_id}", "a web server takes no files"),
        ("ftp://lake/{run_id}", "`ftp://` is not read"),
    ],
)
def test_a_path_that_leaves_its_place_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        TargetPath(text).check()


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("lake", "./lake", "lake"),
        ("lake/scores", "lake", "lake"),
        ("lake", "./lake/scores", "lake"),
        ("lake", str(Path("lake/scores").absolute()), "lake"),
        ("s3://lake/a", "S3://lake/a/b/", "s3://lake/a"),
        ("lake", "lake-2", None),
        ("s3://lake/a", "s3://lake/ab", None),
    ],
)
def test_a_folder_in_another_one_is_found_however_it_is_written(one: str, other: str, shared: str | None) -> None:
    assert find_shared(one, other) == shared
    assert (find_shared(other, one) is None) == (shared is None)


def test_a_place_is_the_same_until_rows_would_be_elsewhere() -> None:
    def digest(**said: Any) -> str:
        return TypeAdapter[Any](AnyTarget).validate_python({"name": "a", **said}).place_digest

    files = {"kind": "csv", "path": "s3://lake/{run_id}"}
    assert digest(**files) == digest(**files, columns=["score"], where="score > 1")
    assert digest(**files) == digest(**{**files, "path": "S3://lake/{run_id}/"})
    merge = {"kind": "merge", "connection": "crm", "table": "t", "on": ["id"], "set": {"risk": "score"}}
    assert digest(**merge) == digest(**{**merge, "on": {"no": "id"}, "set": {"note": "score"}})
    others = [{**merge, "schema": "s"}]
    others += [{**files, "kind": "parquet"}, {**files, "path": "s3://lake/a/{run_id}"}, {**files, "connection": "lake"}]
    others += [{"kind": "http", "url": "crm"}, {**merge, "connection": "b"}, {**merge, "table": "u"}, files, merge]
    assert len({digest(**each) for each in others}) == len(others)
    assert digest(kind="http", url="crm") == digest(kind="http", url="https://crm.example.com")
