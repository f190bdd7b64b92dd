"""The model store in an object store, on real servers: versions are whole, moves of aliases are not lost."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from penstock.api.project import Project
from penstock.cli.app import app
from penstock.deployments.doctor.stores import check_store
from penstock.errors import (
    ModelNotFound,
    ModelRefused,
    SettingsError,
    StoreRefused,
    StoreUnavailable,
)
from penstock.models import registry as registry_module
from penstock.models import remote_store
from penstock.models.registry import Registry, open_registry
from penstock.run_types import ModelPin
from penstock.settings import load_settings
from tests.conftest import view_rows
from tests.servers.faulty import Fault, FaultyProxy
from tests.servers.s3 import S3Server
from tests.servers.web import WebServer
from tests.shop import START, Place, payments, train_model

obstore = pytest.importorskip("obstore", reason="obstore is not installed (the extra `object-stores`)")
SERVERS = ("s3", "azure", "google")
SCHEMES = {"s3": "s3", "azure": "az", "google": "gs"}


@dataclass(frozen=True)
class Bucket:
    """A bucket of a server, with the tests' own way to it."""

    url: str
    raw: Any

    def keys(self, prefix: str = "") -> list[str]:
        return sorted(meta["path"] for page in obstore.list(self.raw, prefix=prefix) for meta in page)

    def read(self, key: str) -> bytes:
        return bytes(obstore.get(self.raw, key).bytes())


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A local store with one version of `card-risk`."""
    folder = tmp_path_factory.mktemp("models")
    train_model(folder)
    return folder


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    yield
    registry_module._load_verified.cache_clear()
    remote_store._check_conditions.cache_clear()


@pytest.fixture
def new_bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Bucket]:
    """Make a bucket on a server, and point this process at the server."""

    def make(name: str = "s3") -> Bucket:
        server = request.getfixturevalue(f"{name}_server")
        bucket = server.make_container() if name == "azure" else server.make_bucket()
        for variable, value in server.environment().items():
            monkeypatch.setenv(variable, value)
        raw = server.store(bucket)
        obstore.put(raw, "unrelated/file", b"")
        return Bucket(f"{SCHEMES[name]}://{bucket}/models", raw)

    return make


def add_version(registry: Registry, trained: Path, name: str = "card-risk", **more: Any) -> Any:
    (file,) = (trained / "card-risk/1").glob("model.*")
    return registry.register(name, file, payments(days=1), **more)


def promoted(bucket: Bucket, trained: Path) -> tuple[Bucket, Registry, ModelPin]:
    """Return a bucket with a store of one version, which is the champion, the store and the version's pin."""
    registry = Registry(bucket.url)
    add_version(registry, trained, alias="champion")
    return bucket, registry, registry.resolve("card-risk@champion")


@pytest.mark.parametrize("name", SERVERS)
def test_a_version_is_registered_promoted_found_and_loaded_as_in_a_folder(
    new_bucket: Callable[..., Bucket], trained: Path, name: str
) -> None:
    bucket = new_bucket(name)
    registry, local = Registry(bucket.url), Registry(trained)
    assert (registry.names(), registry.versions("card-risk")) == ((), ())

    first = add_version(registry, trained, alias="champion")
    add_version(registry, trained)
    registry.promote("card-risk", "2", "champion")

    assert registry.names() == ("card-risk",)
    assert registry.versions("card-risk") == ("1", "2")
    assert registry.aliases("card-risk") == {"champion": "2"}
    assert [(move.version, move.previous) for move in registry.alias_history("card-risk")] == [("1", None), ("2", "1")]
    pin = registry.resolve("card-risk@champion")
    assert pin == ModelPin("card-risk", "2", first.sha256)
    manifest = local.manifest("card-risk", "1")
    assert (registry.load(pin).manifest.features, first.sha256) == (manifest.features, manifest.sha256)
    assert bucket.keys("models/card-risk") == [
        "models/card-risk/1/manifest.json",
        "models/card-risk/1/model.ubj",
        "models/card-risk/2/manifest.json",
        "models/card-risk/2/model.ubj",
        "models/card-risk/aliases.json",
    ]


@pytest.mark.parametrize("name", SERVERS)
def test_registrations_and_promotions_at_once_are_all_kept(
    new_bucket: Callable[..., Bucket], trained: Path, name: str
) -> None:
    bucket = new_bucket(name)

    with ThreadPoolExecutor(3) as threads:
        made = list(threads.map(lambda n: add_version(Registry(bucket.url), trained, alias=f"alias-{n}"), range(3)))

    registry = Registry(bucket.url)
    assert sorted(manifest.version for manifest in made) == ["1", "2", "3"]
    assert registry.versions("card-risk") == ("1", "2", "3")
    assert registry.aliases("card-risk") == {f"alias-{n}": manifest.version for n, manifest in enumerate(made)}
    assert len(registry.alias_history("card-risk")) == 3


@pytest.mark.parametrize("has_aliases", [False, True], ids=["first", "later"])
@pytest.mark.parametrize("name", SERVERS)
def test_a_promotion_between_the_read_and_the_write_of_another_is_not_lost(
    new_bucket: Callable[..., Bucket], trained: Path, request: pytest.FixtureRequest, name: str, has_aliases: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    bucket, server = new_bucket(name), request.getfixturevalue(f"{name}_server")
    registry = Registry(bucket.url)
    add_version(registry, trained, alias="old" if has_aliases else None)
    (variable,) = (key for key, value in server.environment().items() if value == server.url)

    def promote_another() -> None:
        with monkeypatch.context() as direct:
            direct.setenv(variable, server.url)
            registry.promote("card-risk", "1", "theirs")

    with FaultyProxy(server.url) as proxy:
        monkeypatch.setenv(variable, proxy.url)
        proxy.spoil(Fault(methods=("PUT",), path="aliases", first=promote_another))
        registry.promote("card-risk", "1", "ours")

    monkeypatch.setenv(variable, server.url)
    assert set(registry.aliases("card-risk")) == {"ours", "theirs", *(["old"] if has_aliases else [])}


def test_an_alias_that_is_moved_while_it_is_read_is_read_again(
    new_bucket: Callable[..., Bucket], trained: Path, faulty_s3: FaultyProxy, s3_server: S3Server, monkeypatch: Any
) -> None:
    registry = Registry(new_bucket().url)
    add_version(registry, trained, alias="champion")
    add_version(registry, trained)

    def move() -> None:
        with monkeypatch.context() as direct:
            direct.setenv("AWS_ENDPOINT_URL", s3_server.url)
            registry.promote("card-risk", "2", "champion")

    monkeypatch.setenv("AWS_ENDPOINT_URL", faulty_s3.url)
    faulty_s3.spoil(Fault(methods=("GET",), path="aliases.json", first=move))

    assert registry.resolve("card-risk@champion").version == "2"


def test_a_store_may_be_the_root_of_a_bucket_or_have_an_odd_name(
    new_bucket: Callable[..., Bucket], trained: Path
) -> None:
    bucket = new_bucket()
    root = bucket.url.removesuffix("/models")
    for url in (root, f"{root}/", f"{root}/a [b] *?c/", root.replace("s3:", "S3:") + "/x"):
        registry = Registry(url)
        add_version(registry, trained, alias="champion")
        assert (registry.names(), registry.versions("card-risk")[0]) == (("card-risk",), "1"), url
        registry.load(registry.resolve("card-risk@champion"))


def test_an_unknown_model_and_version_are_named_with_those_that_exist(
    new_bucket: Callable[..., Bucket], trained: Path
) -> None:
    registry = Registry(new_bucket().url)
    with pytest.raises(ModelNotFound, match="card-risk"):
        registry.resolve("card-risk@champion")
    add_version(registry, trained, alias="champion")

    with pytest.raises(ModelNotFound, match="card-risk"):
        registry.resolve("card@champion")
    with pytest.raises(ModelNotFound, match="Did you mean `card-risk@1`"):
        registry.resolve("card-risk@7")


# --- interrupted ---------------------------------------------------------------------------------


@pytest.mark.parametrize("survives", ["nothing", "model", "manifest"])
def test_a_registration_that_dies_between_its_files_is_no_version_and_the_next_one_works(
    new_bucket: Callable[..., Bucket], trained: Path, faulty_s3: FaultyProxy, survives: str, s3_server: S3Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    bucket = new_bucket()
    registry = Registry(bucket.url)
    add_version(registry, trained)
    monkeypatch.setenv("AWS_ENDPOINT_URL", faulty_s3.url)

    kinds = {"nothing": "/2/model.ubj", "model": "/2/manifest.json", "manifest": "/aliases.json"}
    faulty_s3.spoil(Fault(methods=("PUT",), path=kinds[survives], status=403))
    with pytest.raises(StoreRefused):
        add_version(registry, trained, alias="champion")
    assert registry.versions("card-risk") == (("1", "2") if survives == "manifest" else ("1",))
    assert [path.removeprefix(bucket.url) for path in registry.store.unfinished()] == (
        ["/card-risk/2"] if survives == "model" else []
    )

    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.url)
    made = add_version(registry, trained, alias="champion")

    assert made.version == ("2" if survives == "nothing" else "3")
    assert registry.resolve("card-risk@champion").version == made.version
    registry.load(registry.resolve("card-risk@champion"))


def test_a_registration_that_is_killed_before_its_manifest_is_no_version(
    new_bucket: Callable[..., Bucket], trained: Path, faulty_s3: FaultyProxy, s3_server: S3Server, tmp_path: Path
) -> None:
    bucket, running = new_bucket(), []
    (file,) = (trained / "card-risk/1").glob("model.*")
    rows = tmp_path / "rows.parquet"
    pq.write_table(payments(days=1), rows)

    def kill() -> None:
        running[0].kill()

    faulty_s3.spoil(Fault(methods=("PUT",), path="/1/manifest.json", first=kill, status=503))
    environment = os.environ | s3_server.environment(endpoint=faulty_s3.url) | {"PENSTOCK_MODEL_STORE": bucket.url}
    command = [sys.executable, "-c", "from penstock.cli import main; main()", "models", "register", "card-risk"]

    running.append(subprocess.Popen([*command, str(file), "--reference", str(rows)], env=environment, cwd=tmp_path))

    assert running[0].wait(60) == -signal.SIGKILL
    registry = Registry(bucket.url)
    assert (registry.names(), bucket.keys("models/card-risk")) == ((), ["models/card-risk/1/model.ubj"])
    assert list(registry.store.unfinished()) == [f"{bucket.url}/card-risk/1"]
    assert add_version(registry, trained, alias="champion").version == "2"
    registry.load(registry.resolve("card-risk@champion"))


@pytest.mark.parametrize("file", ["model.ubj", "manifest.json", "aliases.json"])
def test_a_write_whose_answer_is_lost_is_not_done_twice(
    new_bucket: Callable[..., Bucket], trained: Path, faulty_s3: FaultyProxy, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    bucket = new_bucket()
    monkeypatch.setenv("AWS_ENDPOINT_URL", faulty_s3.url)
    registry = Registry(bucket.url)
    registry.store.check_writable()
    faulty_s3.spoil(Fault(methods=("PUT",), path=file, lose_answer=True))

    made = add_version(registry, trained, alias="champion")

    assert made.version == "1"
    assert registry.versions("card-risk") == ("1",)
    assert list(registry.store.unfinished()) == []
    assert len(registry.alias_history("card-risk")) == 1


def test_a_server_that_is_busy_or_cuts_its_answers_is_asked_again(
    new_bucket: Callable[..., Bucket], trained: Path, faulty_s3: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = new_bucket()
    add_version(Registry(bucket.url), trained, alias="champion")
    monkeypatch.setenv("AWS_ENDPOINT_URL", faulty_s3.url)
    registry = Registry(bucket.url)

    faulty_s3.spoil(Fault(status=503, times=2))
    pin = registry.resolve("card-risk@champion")
    faulty_s3.spoil(Fault(methods=("GET",), path="model.ubj", cut_after=100))
    try:
        registry.load(pin)
    except StoreUnavailable:
        registry.load(pin)  # as a task does that is tried again


# --- verified ------------------------------------------------------------------------------------


def test_a_file_whose_bytes_changed_is_refused_and_an_absent_one_is_named(
    new_bucket: Callable[..., Bucket], trained: Path
) -> None:
    bucket, registry, pin = promoted(new_bucket(), trained)
    key = "models/card-risk/1/model.ubj"
    content = bytearray(bucket.read(key))
    content[len(content) // 2] ^= 1
    obstore.put(bucket.raw, key, bytes(content))
    with pytest.raises(ModelRefused, match="its bytes changed"):
        registry.load(pin)
    obstore.delete(bucket.raw, key)
    with pytest.raises(ModelRefused, match=r"models/card-risk/1/model\.ubj does not exist"):
        registry.load(pin)


def test_a_version_that_was_replaced_with_its_manifest_is_not_scored_by_a_run_that_pinned_it(
    new_bucket: Callable[..., Bucket], trained: Path
) -> None:
    bucket, registry, pin = promoted(new_bucket(), trained)
    manifest = json.loads(bucket.read("models/card-risk/1/manifest.json"))
    obstore.put(bucket.raw, "models/card-risk/1/model.ubj", b"{}")
    manifest["sha256"] = hashlib.sha256(b"{}").hexdigest()
    obstore.put(bucket.raw, "models/card-risk/1/manifest.json", json.dumps(manifest).encode())

    with pytest.raises(ModelRefused, match="the version was replaced"):
        registry.load(pin)


def test_a_manifest_that_is_too_large_or_damaged_is_refused(
    new_bucket: Callable[..., Bucket], trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = new_bucket()
    registry = Registry(bucket.url)
    add_version(registry, trained, alias="champion")
    obstore.put(bucket.raw, "models/card-risk/1/manifest.json", b'{"a":' * 1000)
    with pytest.raises(ModelRefused, match="manifest is damaged"):
        registry.resolve("card-risk@1")
    monkeypatch.setattr(registry_module, "MANIFEST_BYTES", 100)
    with pytest.raises(ModelRefused, match="At most 100 are read"):
        registry.resolve("card-risk@1")


def test_many_partitions_fetch_a_model_once(
    new_bucket: Callable[..., Bucket], trained: Path, faulty_s3: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = new_bucket()
    add_version(Registry(bucket.url), trained, alias="champion")
    monkeypatch.setenv("AWS_ENDPOINT_URL", faulty_s3.url)
    pin = Registry(bucket.url).resolve("card-risk@champion")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: Registry(bucket.url).load(pin), range(20)))

    assert faulty_s3.requests("model.ubj") == 1


# --- who may write -------------------------------------------------------------------------------


def test_access_that_is_denied_is_named_without_the_secret(
    new_bucket: Callable[..., Bucket], trained: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = new_bucket()
    add_version(Registry(bucket.url), trained, alias="champion")
    for variable, value in s3_server.environment("reader").items():
        monkeypatch.setenv(variable, value)

    reader = Registry(bucket.url)
    reader.load(reader.resolve("card-risk@champion"))
    for write in (lambda: add_version(reader, trained), lambda: reader.promote("card-risk", "1", "other")):
        with pytest.raises(StoreRefused, match="access is denied") as denied:
            write()
        assert "reader-secret" not in str(denied.value)
    assert bucket.keys("models/card-risk/2") == []


@pytest.mark.parametrize("condition", ["if-none-match", "if-match"])
def test_a_store_that_ignores_the_condition_of_a_write_takes_no_version(
    new_bucket: Callable[..., Bucket],
    trained: Path,
    faulty_s3: FaultyProxy,
    monkeypatch: pytest.MonkeyPatch,
    condition: str,
) -> None:
    bucket = new_bucket()
    obstore.put(bucket.raw, "models/.conditional-writes", b"")
    monkeypatch.setenv("AWS_ENDPOINT_URL", faulty_s3.url)
    if condition == "if-none-match":
        gone = lambda: obstore.delete(bucket.raw, "models/.conditional-writes")  # noqa: E731
        faulty_s3.spoil(Fault(methods=("PUT",), path=".conditional-writes", after=1, first=gone))
    else:
        faulty_s3.spoil(Fault(methods=("PUT",), path=".conditional-writes", after=2, status=200))

    with pytest.raises(StoreRefused, match="does not keep the condition of a write"):
        add_version(Registry(bucket.url), trained)

    assert bucket.keys("models/card-risk") == []


def test_a_store_that_does_not_know_conditional_writes_takes_no_version(
    new_bucket: Callable[..., Bucket], trained: Path, faulty_s3: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = new_bucket()
    monkeypatch.setenv("AWS_ENDPOINT_URL", faulty_s3.url)
    body = b"<Error><Code>NotImplemented</Code></Error>"
    faulty_s3.spoil(Fault(methods=("PUT",), times=99, status=501, body=body))

    with pytest.raises(StoreRefused, match="does not keep the condition of a write"):
        add_version(Registry(bucket.url), trained)


def test_the_options_of_the_connection_model_store_open_it(
    new_bucket: Callable[..., Bucket], trained: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = new_bucket()
    add_version(Registry(bucket.url), trained, alias="champion")
    for variable in s3_server.environment():
        monkeypatch.delenv(variable)
    options = {
        "endpoint": s3_server.url,
        "region": "us-east-1",
        "access_key_id": "reader",
        "secret_access_key": "reader-secret",
    }
    monkeypatch.setenv("PENSTOCK_MODEL_STORE", bucket.url)
    monkeypatch.setenv("PENSTOCK_CONNECTIONS__MODEL_STORE", json.dumps(options))

    shown = CliRunner().invoke(app, ["models", "list", "--json"])

    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.output)[0]["version"] == "1"
    assert "reader-secret" not in repr(open_registry(load_settings(), load_settings().url_of))
    denied = CliRunner().invoke(app, ["models", "promote", "card-risk", "1", "other"])
    assert denied.exit_code == 1
    assert "access is denied" in denied.output
    assert "reader-secret" not in denied.output


def test_commands_register_promote_check_and_score_with_a_remote_store(
    new_bucket: Callable[..., Bucket],
    trained: Path,
    make_place: Callable[..., Place],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place, bucket = make_place(days=1, a_day=40), new_bucket()
    monkeypatch.setenv("PENSTOCK_MODEL_STORE", bucket.url)
    (file,) = (trained / "card-risk/1").glob("model.*")
    pq.write_table(payments(days=1), "rows.parquet")
    for arguments in (
        ["models", "register", "card-risk", str(file), "--reference", "rows.parquet", "--alias", "champion"],
        ["models", "register", "card-risk", str(file), "--reference", "rows.parquet", "--alias", "champion"],
        ["models", "promote", "card-risk", "1", "champion"],
        ["check", "card-risk.yaml", "--end", "2026-01-02"],
        ["plan", "card-risk.yaml", "--end", "2026-01-02"],
    ):
        ended = CliRunner().invoke(app, arguments)
        assert ended.exit_code == 0, ended.output
    assert "card-risk/1" in CliRunner().invoke(app, ["check", "card-risk.yaml", "--end", "2026-01-02"]).output
    project = Project()
    pipeline = project.load_pipeline("card-risk.yaml")

    scored = project.score_interval(pipeline, project.plan(pipeline, now=START + timedelta(days=1)).intervals[0])

    assert scored.scored == 40
    assert len(view_rows(place.warehouse)) == 40


def test_the_doctor_names_what_interrupted_registrations_left(new_bucket: Callable[..., Bucket], trained: Path) -> None:
    bucket = new_bucket()
    registry = Registry(bucket.url)
    add_version(registry, trained)
    assert [finding.state for finding in check_store(registry)] == ["ok"]

    obstore.put(bucket.raw, "models/card-risk/2/model.ubj", b"half of it")

    [finding] = check_store(registry)
    assert (finding.state, f"{bucket.url}/card-risk/2" in finding.what) == ("warning", True)
    [finding] = check_store(Registry("https://models.example/models"))
    assert (finding.state, "web server" in finding.what) == ("not checked", True)


def test_a_bucket_that_does_not_exist_is_named(new_bucket: Callable[..., Bucket]) -> None:
    new_bucket("google")
    with pytest.raises(StoreRefused, match="there is no bucket `no-such-bucket`"):
        Registry("gs://no-such-bucket/models").names()


def test_a_web_server_gives_models_by_alias_and_version_and_takes_none(web_server: WebServer, trained: Path) -> None:
    import shutil

    shutil.copytree(trained, web_server.folder / "models")
    registry = Registry(f"{web_server.url}/models")

    registry.load(registry.resolve("card-risk@champion"))
    registry.load(registry.resolve("card-risk@1"))
    with pytest.raises(ModelNotFound):
        registry.resolve("card-risk@2")
    with pytest.raises(SettingsError, match="models are only read from it"):
        add_version(registry, trained)
    with pytest.raises(SettingsError, match="models are only read from it"):
        registry.promote("card-risk", "1", "other", now=datetime.now(UTC))
    with pytest.raises(SettingsError, match="does not list its models"):
        registry.names()
