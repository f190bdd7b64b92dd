"""What `penstock up` needs as a service: logs of bounded size, changed files noticed, a unit that systemd reads."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from penstock.deployments.deploy.work_pool import WORK_POOL
from penstock.deployments.folder_watch import FolderWatch
from penstock.deployments.server import health
from penstock.deployments.server.log_rotation import KEPT, rotate_log
from penstock.deployments.systemd import notify_systemd, render_unit


def test_a_log_that_is_open_stays_small_and_keeps_its_older_lines(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    with log.open("ab", buffering=0) as writing:  # as the worker's process does
        for number in range(KEPT + 3):
            writing.write(f"{number} ".encode() * 50)
            rotate_log(log, 60)
        writing.write(b"last")

    assert log.read_bytes() == b"last"
    older = sorted(tmp_path.glob("worker.log.*"))
    assert [file.read_text()[0] for file in older] == ["5", "4", "3"]


def test_a_small_log_is_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    log.write_text("a line\n")

    rotate_log(log)
    rotate_log(tmp_path / "none.log")

    assert [file.name for file in tmp_path.iterdir()] == ["worker.log"]


def test_a_changed_file_is_noticed_when_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "first.yaml").write_text("name: first\n")
    watch = FolderWatch(tmp_path)
    assert not watch.has_changed()

    (tmp_path / "second.yaml").write_text("name: sec")
    assert not watch.has_changed()  # it may still be written
    (tmp_path / "second.yaml").write_text("name: second\n")
    assert not watch.has_changed()
    assert watch.has_changed()
    assert not watch.has_changed()

    (tmp_path / "first.yaml").unlink()
    assert [watch.has_changed(), watch.has_changed(), watch.has_changed()] == [False, True, False]


def test_a_folder_that_does_not_exist_yet_is_watched_too(tmp_path: Path) -> None:
    watch = FolderWatch(tmp_path / "pipelines")
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "first.yaml").write_text("name: first\n")

    assert [watch.has_changed(), watch.has_changed()] == [False, True]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("name", ["shop", 'a shop with 100% "odd" $signs'])
def test_systemd_reads_the_unit_without_a_complaint(tmp_path: Path, name: str) -> None:
    project = tmp_path / name
    project.mkdir()
    unit = tmp_path / "penstock-shop.service"
    unit.write_text(render_unit(project, ["--port", "4200"]))

    ended = subprocess.run(
        ["systemd-analyze", "--user", "verify", str(unit)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)},
    )

    assert (ended.returncode, ended.stderr) == (0, "")


def test_systemd_is_told_that_the_service_is_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = tmp_path / "notify"
    monkeypatch.setenv("NOTIFY_SOCKET", str(address))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(address))
        notify_systemd("READY=1")
        assert systemd.recv(100) == b"READY=1"
    notify_systemd("READY=1")  # nobody listens any more


def test_the_health_page_asks_for_the_pool_of_the_deployments() -> None:
    assert health.POOL == WORK_POOL
