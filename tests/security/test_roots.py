"""`files` and `log` sources stay inside the folders of PENSTOCK_ROOTS, when it is set."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from penstock.cli.app import app
from penstock.errors import OutsideRoots
from penstock.interval import DataInterval
from penstock.object_stores import write_bytes
from penstock.run_types import FileState
from penstock.settings import Settings, load_settings
from penstock.sources.file_paths import matching_files
from penstock.sources.logs.files import find_files
from penstock.spec.sources import FilesSource
from tests.servers.s3 import S3Server

DAY = DataInterval(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))
SPEC = """
name: visits
sources:
  visits: {{kind: {kind}, path: '{path}', format: {format}}}
model: card-risk@champion
destination: {{table: visit_scores}}
"""


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that may be read, beside one that may not; the working folder holds both."""
    for name in ("lake", "lake-secret", "logs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "2026-01-01.csv").write_text("a,b\n1,2\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PENSTOCK_ROOTS", f"{tmp_path / 'lake'}{os.pathsep}logs{os.pathsep}s3://bucket/allowed")
    return tmp_path / "lake"


def match(path: str | Path) -> list[Path]:
    """Find the files of a path, as a `files` and as a `log` source; both find the same."""
    source = FilesSource(kind="files", path=str(path), format="csv")
    roots = load_settings().allowed_roots
    files = [f for f in matching_files("rates", source, DAY, roots, zone="UTC") if isinstance(f, Path)]
    assert "{" in str(path) or sorted(find_files("rates", str(path), roots)) == [file.absolute() for file in files]
    return files


@pytest.mark.parametrize(
    "path",
    ["lake/*.csv", "lake/2026-01-01.csv", "lake/{interval_start:%Y-%m-%d}.csv", "lake/**/*.csv", "lake/../logs/*.csv"],
)
def test_a_path_inside_of_a_root_is_read(lake: Path, path: str) -> None:
    assert [file.name for file in match(path)] == ["2026-01-01.csv"]


@pytest.mark.parametrize(
    "path",
    [
        "lake-secret/*.csv",
        "lake-secret/2026-01-01.csv",
        "lake/../lake-secret/*.csv",
        "lake/*/../../lake-secret/*.csv",
        "*/*.csv",
        "lake*/*.csv",
        "[l]ake-secret/*.csv",
        "{interval_start:lake-secret/%Y-%m-%d}.csv",
        "lake/{interval_start:../lake-secret/%Y-%m-%d}.csv",
        "/etc/passwd",
        "/etc/*",
        "/**",
        "s3://bucket/other/*.csv",
        "s3://bucket/allowed/../other/*.csv",
        "s3://bucket/allowed-not/*.csv",
        "https://example.com/a.csv",
    ],
)
def test_a_path_out_of_the_roots_is_refused_by_name(lake: Path, path: str) -> None:
    (lake / "inner").mkdir()
    for read in (match, lambda text: find_files("rates", text, load_settings().allowed_roots)):
        if "{" in path and read is not match:
            continue
        with pytest.raises(OutsideRoots, match=r"source `rates`.*Nothing was read.*PENSTOCK_ROOTS"):
            read(path)


def test_a_remote_path_that_a_root_allows_passes_the_check(
    lake: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in s3_server.environment().items():
        monkeypatch.setenv(variable, value)
    url = f"s3://{s3_server.make_bucket()}/allowed"
    write_bytes(f"{url}/2026/a.csv", b"a,b\n1,2\n")
    source = FilesSource(kind="files", path=f"{url}/2026/*.csv", format="csv")

    [found] = matching_files("rates", source, DAY, (url,), zone="UTC")

    assert isinstance(found, FileState)
    assert found.path == f"{url}/2026/a.csv"


@pytest.mark.parametrize("target", ["/etc/passwd", "../lake-secret/2026-01-01.csv"])
def test_a_link_that_leads_out_is_refused_and_told_where_it_leads(lake: Path, target: str) -> None:
    (lake / "link.csv").symlink_to(target)

    with pytest.raises(OutsideRoots) as refused:
        match("lake/*.csv")

    assert str((lake / target).resolve()) in str(refused.value)


def test_a_folder_that_is_a_link_out_is_refused(lake: Path) -> None:
    (lake / "inner").symlink_to("../lake-secret")

    with pytest.raises(OutsideRoots):
        match("lake/inner/*.csv")
    with pytest.raises(OutsideRoots):
        match("lake/*/2026-01-01.csv")


def test_a_link_inside_of_the_roots_is_read(lake: Path) -> None:
    (lake / "link.csv").symlink_to("../logs/2026-01-01.csv")

    assert [file.name for file in match("lake/link.csv")] == ["link.csv"]


def test_without_roots_every_path_is_read(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PENSTOCK_ROOTS")

    assert match("lake-secret/*.csv")


def test_the_colon_of_a_remote_root_separates_nothing() -> None:
    roots = ("/data/lake", "s3://bucket/allowed", "https://host:8080/x", "logs", "gs://bucket")

    assert Settings(roots=os.pathsep.join(roots)).allowed_roots == roots


@pytest.mark.parametrize(("kind", "format_"), [("files", "csv"), ("log", "combined")])
def test_check_tells_of_a_path_out_of_the_roots(lake: Path, kind: str, format_: str) -> None:
    spec = lake.parent / "visits.yaml"
    spec.write_text(SPEC.format(kind=kind, path="lake-secret/*.csv", format=format_))

    result = CliRunner().invoke(app, ["check", str(spec)])

    assert result.exit_code != 0
    assert "outside of" in result.output
    assert "PENSTOCK_ROOTS" in result.output
