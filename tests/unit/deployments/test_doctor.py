"""What doctor makes of what it is told: versions, locks, mounts, addresses, plans."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from penstock.deployments.doctor import checkup
from penstock.deployments.doctor.context import CheckContext
from penstock.deployments.doctor.databases import list_connections
from penstock.deployments.doctor.finding import Check, Finding, ok
from penstock.deployments.doctor.judging import judge_heartbeats, judge_limits, judge_schedules, judge_workers
from penstock.deployments.doctor.machine import check_proxy, check_telemetry, check_time_zones
from penstock.deployments.doctor.mounts import network_kind, parse_mounts
from penstock.deployments.doctor.packages import (
    LOCK,
    PACKAGE,
    check_lock,
    installed_version,
    judge_bounds,
    name_remedy,
)
from penstock.deployments.doctor.reaching import hide_login
from penstock.deployments.doctor.reading import Deployed, Facts, Pool
from penstock.deployments.doctor.server import Exposure, judge_access, measure_exposure
from penstock.deployments.doctor.stores import check_pipeline_model, check_store
from penstock.errors import ModelNotFound, SettingsError
from penstock.settings import Settings
from penstock.spec.interval import IntervalSpec
from penstock.spec.pipeline import Pipeline
from penstock.spec.yaml_file import parse_pipeline
from tests.shop import SPEC, train_model

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SOUND = Deployed("score/card-risk", True, "ENQUEUE", 30, timedelta(days=1), NOW + timedelta(hours=1))
FACTS = Facts(NOW, (SOUND,), Pool(False, frozenset({"worker-1"})), 90.0)


def case(folder: Path, **environment: str) -> CheckContext:
    return CheckContext(Settings(home=folder / ".penstock", pipelines=folder), environment, NOW)


def state(findings: Iterator[Finding]) -> str:
    [finding] = findings
    return finding.state


# --- this machine ------------------------------------------------------------------------------


def test_a_version_that_differs_from_the_lock_is_drift(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("sqlalchemy==1.0.0 \\\n    --hash=sha256:00\nno-such-package==1.0 \\\n    --hash=sha256:00\n")

    [finding] = check_lock(lock)

    assert finding.state == "warning"
    assert finding.what == f"drift: sqlalchemy {installed_version('sqlalchemy')} (lock: 1.0.0)"


def test_a_lock_that_names_what_is_installed_is_well(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text(f"typer=={installed_version('typer')} ; python_version >= '3.11' \\\n    --hash=sha256:00\n")

    assert state(check_lock(lock)) == "ok"


def test_a_lock_is_read_for_this_python_only(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("typer==0.0.1 ; python_full_version < '3.8' \\\n    --hash=sha256:00\n")

    assert state(check_lock(lock)) == "ok"


def test_the_lock_of_this_checkout_is_read_whole() -> None:
    from penstock.deployments.doctor.packages import read_lock

    locked = read_lock(LOCK.read_text())

    assert len(locked) > 100
    assert locked["sqlalchemy"].startswith("2.0")
    assert LOCK.read_text() == Path("requirements-runtime.lock").read_text()


def test_the_remedy_in_a_checkout_names_make_and_that_of_a_wheel_names_pip(tmp_path: Path) -> None:
    wheel = name_remedy(tmp_path / "penstock")

    assert "Delete `.venv`" in name_remedy(PACKAGE)
    assert f"--require-hashes -r {tmp_path / 'penstock' / 'requirements.lock'}" in wheel
    assert "make" not in wheel


def test_a_version_outside_the_bounds_is_broken_and_says_what_it_does() -> None:
    [finding] = judge_bounds([Requirement("sqlalchemy>=3")])

    assert finding.state == "broken"
    assert "scheduler creates no runs" in finding.what


def test_a_package_that_is_not_there_is_broken() -> None:
    [finding] = judge_bounds([Requirement("no-such-package>=1")])

    assert (finding.subject, finding.state) == ("no-such-package", "broken")


def test_a_proxy_that_catches_the_named_server_is_broken(tmp_path: Path) -> None:
    named = {"HTTP_PROXY": "http://proxy:3128", "PREFECT_API_URL": "http://127.0.0.1:4200/api"}

    [finding] = check_proxy(case(tmp_path, **named))

    assert (finding.state, finding.remedy) == ("broken", "Add 127.0.0.1 to NO_PROXY.")


@pytest.mark.parametrize("excepted", ["127.0.0.1", "example.org, 127.0.0.1", "*"])
def test_a_proxy_that_leaves_this_machine_alone_is_well(tmp_path: Path, excepted: str) -> None:
    assert state(check_proxy(case(tmp_path, https_proxy="http://proxy:3128", no_proxy=excepted))) == "ok"


def test_telemetry_that_somebody_turned_on_is_told(tmp_path: Path) -> None:
    assert state(check_telemetry(case(tmp_path, GX_ANALYTICS_ENABLED="true"))) == "warning"


def test_time_zones_are_looked_up(tmp_path: Path) -> None:
    assert state(check_time_zones(case(tmp_path))) == "ok"

    pipeline = parse_pipeline(SPEC.encode(), "card-risk.yaml")
    assert pipeline.interval is not None
    interval = IntervalSpec.model_construct(**dict(pipeline.interval) | {"timezone": "Mars/Olympus"})
    elsewhere = Pipeline.model_construct(**dict(pipeline) | {"interval": interval})  # loaded where the zone is known
    [finding] = check_time_zones(replace(case(tmp_path), pipelines=(elsewhere,)))
    assert (finding.state, finding.what) == ("broken", "unknown here: Mars/Olympus")


@pytest.mark.parametrize(
    ("file", "kind"),
    [("/data/warehouse.db", "nfs4"), ("/data/local/warehouse.db", None), ("/my disk/x.db", "fuse.sshfs"), ("/x", None)],
)
def test_a_file_on_a_network_is_told_by_its_mount(file: str, kind: str | None) -> None:
    mounts = parse_mounts(
        "/dev/sda1 / ext4 rw 0 0\nnas:/data /data nfs4 rw 0 0\n/dev/sdb1 /data/local xfs rw 0 0\n"
        "me@host:/ /my\\040disk fuse.sshfs rw 0 0\n"
    )

    assert network_kind(Path(file), mounts) == kind


# --- models ------------------------------------------------------------------------------------


def test_an_alias_that_names_no_version_is_broken(tmp_path: Path) -> None:
    registry = train_model(tmp_path)
    aliases = tmp_path / "card-risk/aliases.json"
    aliases.write_text(json.dumps({"aliases": {"champion": "7"}}))

    [finding] = check_store(registry)

    assert finding.state == "broken"
    assert "`champion` names version 7" in finding.what


def test_a_model_of_a_newer_xgboost_is_broken(tmp_path: Path) -> None:
    registry = train_model(tmp_path)
    file = tmp_path / "card-risk/1/manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"saved_by": "99.1.0"}))

    [finding] = check_store(registry)

    assert finding.state == "broken"
    assert "saved by XGBoost 99.1.0" in finding.what


def test_a_pipelines_model_is_opened_as_a_run_does(tmp_path: Path) -> None:
    [finding] = check_pipeline_model(train_model(tmp_path), parse_pipeline(SPEC.encode(), "card-risk.yaml"))

    assert finding == ok("card-risk", "card-risk@champion is card-risk/1, and scores its golden rows as registered")


# --- who can reach a server --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "exposure"),
    [
        ("127.0.0.1", "this machine"),
        ("localhost", "this machine"),
        ("::1", "this machine"),
        ("192.168.1.7", "a private network"),
        ("8.8.8.8", "the internet"),
    ],
)
def test_who_reaches_a_server_is_told_by_its_address(host: str, exposure: str) -> None:
    assert measure_exposure(host) == exposure


@pytest.mark.parametrize(
    ("exposure", "judged"), [("the internet", "broken"), ("a private network", "warning"), ("this machine", "ok")]
)
def test_an_open_server_is_judged_by_who_reaches_it(exposure: Exposure, judged: str) -> None:
    assert judge_access(exposure).state == judged


def test_the_password_of_an_address_is_not_shown() -> None:
    assert hide_login("http://admin:open-sesame@prefect:4200/api") == "http://prefect:4200/api"


# --- what is deployed --------------------------------------------------------------------------


def test_sound_facts_are_well() -> None:
    findings = [f for judge in (judge_schedules, judge_limits, judge_workers, judge_heartbeats) for f in judge(FACTS)]

    assert {finding.state for finding in findings} == {"ok"}


@pytest.mark.parametrize(
    ("changes", "judged"),
    [
        ({"next_run": None}, "broken"),
        ({"next_run": None, "age": timedelta(seconds=20)}, "warning"),
        ({"next_run": NOW - timedelta(hours=2)}, "warning"),
        ({"next_run": None, "is_scheduled": False}, "ok"),
    ],
)
def test_a_schedule_is_judged_by_its_planned_runs(changes: dict[str, object], judged: str) -> None:
    assert state(judge_schedules(replace(FACTS, deployments=(replace(SOUND, **changes),)))) == judged


def test_no_worker_is_broken_where_a_schedule_waits_for_one() -> None:
    alone = replace(FACTS, pool=Pool(False, frozenset()))

    assert state(judge_workers(alone)) == "broken"
    assert state(judge_workers(replace(alone, deployments=()))) == "warning"


# --- one check and the others ------------------------------------------------------------------


def test_a_paused_schedule_is_named_with_how_to_resume_it() -> None:
    paused = replace(SOUND, is_scheduled=False, next_run=None, pause="paused (15 2 * * * Europe/Paris)")

    named, rest = judge_schedules(replace(FACTS, deployments=(paused,)))

    assert named.state == "warning"
    assert named.what == "score/card-risk is paused (15 2 * * * Europe/Paris): no run starts by itself"
    assert "`penstock resume card-risk`" in named.remedy
    assert (rest.state, rest.what) == ("ok", "none is active")


def test_a_check_that_fails_in_an_unforeseen_way_ends_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Iterator[Finding]:
        yield ok("odd", "begun")
        raise KeyError("odd")

    class Module:
        @staticmethod
        def list_checks(case: CheckContext) -> tuple[Check, ...]:
            return (Check("odd", fail), Check("next", lambda: [ok("next", "well")]))

    monkeypatch.setattr(checkup, "GROUPS", {"This machine": ("odd",), "Prefect server": ()})
    monkeypatch.setattr(checkup, "import_module", lambda name: Module)

    begun, odd, following = checkup.examine(case(tmp_path))[0].findings

    assert (begun.state, odd.state, following.state) == ("ok", "broken", "ok")
    assert "KeyError" in odd.what


def test_a_library_that_breaks_on_import_ends_no_other_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_server(name: str) -> object:
        if name.endswith(".server"):
            raise TypeError("Body() got an unexpected keyword argument 'min_items'")
        return import_module(name)

    monkeypatch.setattr(checkup, "import_module", break_server)

    sections = {section.title: section.findings for section in checkup.examine(case(tmp_path))}

    assert "TypeError: Body()" in sections["Prefect server"][-1].what
    assert sections["Deployments"][0].subject == "specs"


def test_settings_that_cannot_be_read_leave_the_machine_to_be_checked(tmp_path: Path) -> None:
    wrong = replace(case(tmp_path, **os.environ), settings_error=SettingsError("PENSTOCK_RUNNER is wrong", "Mend it"))

    machine, databases, *_ = checkup.examine(wrong)

    assert [f.what for f in machine.findings if f.state == "broken"] == ["PENSTOCK_RUNNER is wrong"]
    assert [f.state for f in databases.findings] == ["not checked"]


def test_a_model_that_is_not_there_is_raised(tmp_path: Path) -> None:
    registry = train_model(tmp_path, "another")

    with pytest.raises(ModelNotFound):
        list(check_pipeline_model(registry, parse_pipeline(SPEC.encode(), "card-risk.yaml")))


def test_a_connection_with_the_options_of_an_object_store_is_no_database(tmp_path: Path) -> None:
    given = {"lake": '{"region": "eu-central-1"}', "vault": "block:secret/lake", "shop": "sqlite:///shop.db"}
    settings = Settings(home=tmp_path, pipelines=tmp_path, connections=given)
    source = "{kind: files, path: 's3://lake/*.csv', format: csv, connection: vault}"
    spec = f"name: p\nsources: {{rows: {source}}}\nmodel: m@1\ndestination: {{table: t}}\n"

    found = list_connections(CheckContext(settings, {}, NOW, pipelines=(parse_pipeline(spec.encode(), "p.yaml"),)))

    assert [connection.name for connection in found] == ["warehouse", "shop"]
