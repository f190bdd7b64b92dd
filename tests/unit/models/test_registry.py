"""The store: what goes in is verified, what comes out is what went in."""

import hashlib
import json
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import xgboost as xgb

from penstock.errors import ModelMismatch, ModelNotFound, ModelRefused
from penstock.models import booster as booster_module
from penstock.models.aliases import AliasMove
from penstock.models.manifest import Manifest
from penstock.models.registry import Registry
from penstock.run_types import ModelPin
from penstock.spec.steps import ModelRef

Save = Callable[..., Path]
Fit = Callable[..., xgb.Booster]
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def ref(text: str) -> ModelRef:
    return ModelRef.model_validate(text)


def rewrite(registry: Registry, change: Callable[[dict[str, Any]], None]) -> ModelPin:
    """Change the manifest of risk/1 on disk and pin what it says then."""
    path = registry.folder / "risk/1/manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    return ModelPin("risk", "1", manifest["sha256"])


@pytest.fixture
def registered(registry: Registry, save: Save, booster: xgb.Booster, rows: pa.Table) -> Manifest:
    return registry.register("risk", save(booster), rows, "champion", metrics={"auc": 0.9}, now=NOON)


def test_a_registered_version_is_described_by_its_manifest(registry: Registry, registered: Manifest) -> None:
    manifest = registry.manifest("risk", "1")

    assert manifest == registered
    assert [(f.name, f.dtype, f.categories) for f in manifest.features] == [
        ("amount", "float", ()),
        ("visits", "int", ()),
        ("known", "bool", ()),
        ("country", "category", ("NL", "AR", "FR")),
    ]
    assert (manifest.objective, manifest.outputs, manifest.saved_by) == ("binary:logistic", ("score",), xgb.__version__)
    assert manifest.created_at == NOON
    assert manifest.metrics == {"auc": 0.9}
    assert manifest.reference["amount"].null_share == pytest.approx(27 / 240)
    assert sum(manifest.reference["country"].frequencies.values()) == pytest.approx(1)
    assert len(manifest.golden) >= 5
    assert any(row.inputs["amount"] is None for row in manifest.golden)


def test_golden_rows_show_the_one_row_with_a_null(
    registry: Registry, save: Save, booster: xgb.Booster, rows: pa.Table
) -> None:
    complete = rows.filter(rows["amount"].is_valid())
    with_one = pa.concat_tables([complete.slice(0, 10), rows.slice(9, 1), complete.slice(10)])

    manifest = registry.register("risk", save(booster), with_one)

    assert sum(row.inputs["amount"] is None for row in manifest.golden) == 1


def test_versions_are_numbered_and_aliases_resolve(
    registry: Registry, registered: Manifest, save: Save, rows: pa.Table, fit: Fit
) -> None:
    second = registry.register("risk", save(fit(rows, "binary:logistic", rounds=3)), rows)

    assert registry.names() == ("risk",)
    assert registry.versions("risk") == ("1", "2")
    assert registry.resolve(ref("risk@champion")) == ModelPin("risk", "1", registered.sha256)
    assert registry.resolve(ref("risk@2")) == ModelPin("risk", "2", second.sha256)


def test_promote_moves_the_alias_and_remembers_where_it_was(
    registry: Registry, registered: Manifest, save: Save, booster: xgb.Booster, rows: pa.Table
) -> None:
    registry.register("risk", save(booster), rows)

    registry.promote("risk", "2", "champion", by="Ada", note="better on May's labels", now=NOON)
    registry.promote("risk", "2", "champion", by="Ben", now=NOON)

    assert registry.aliases("risk") == {"champion": "2"}
    first, second = registry.alias_history("risk")
    assert (first.version, first.previous, first.note) == ("1", None, "registered")
    assert second == AliasMove(
        alias="champion", version="2", previous="1", at=NOON, by="Ada", note="better on May's labels"
    )


def test_aliases_that_older_versions_wrote_have_moves_of_nobody(registry: Registry, registered: Manifest) -> None:
    file = Path(registry.folder) / "risk" / "aliases.json"
    old = {"alias": "champion", "version": "1", "previous": None, "at": NOON.isoformat()}
    file.write_text(json.dumps({"aliases": {"champion": "1"}, "history": [old]}))

    registry.promote("risk", "1", "challenger", by="Ada", now=NOON)

    moves = registry.alias_history("risk")
    assert [(move.alias, move.by) for move in moves] == [("champion", ""), ("challenger", "Ada")]


def test_versions_sort_as_numbers(registry: Registry, registered: Manifest) -> None:
    for version in ("10", "9"):
        folder = registry.folder / "risk" / version
        folder.mkdir()
        (folder / "manifest.json").write_text("{}")

    assert registry.versions("risk") == ("1", "9", "10")


@pytest.mark.parametrize(
    ("wanted", "hint"),
    [("risk@champoin", "Did you mean `risk@champion`"), ("risk@7", "`risk@"), ("rusk@champion", "there is no model")],
)
def test_an_unknown_model_says_what_there_is(registry: Registry, registered: Manifest, wanted: str, hint: str) -> None:
    with pytest.raises(ModelNotFound, match=re.escape(hint)):
        registry.resolve(ref(wanted))


def test_an_empty_store_has_no_models(registry: Registry) -> None:
    assert registry.names() == ()
    with pytest.raises(ModelNotFound):
        registry.resolve(ref("risk@champion"))


def test_a_flipped_bit_is_refused_before_xgboost_sees_the_bytes(
    registry: Registry, registered: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = registry.folder / "risk/1/model.ubj"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    opened: list[bytes] = []
    monkeypatch.setattr(booster_module, "open_booster", lambda content, *_: opened.append(content))

    with pytest.raises(ModelRefused, match="its bytes changed"):
        registry.load(ModelPin("risk", "1", registered.sha256))

    assert opened == []


def test_a_pin_with_another_digest_is_refused(registry: Registry, registered: Manifest) -> None:
    with pytest.raises(ModelRefused, match="the version was replaced"):
        registry.load(ModelPin("risk", "1", "0" * 64))


def test_loading_twice_gives_the_same_object(registry: Registry, registered: Manifest) -> None:
    pin = registry.resolve(ref("risk@champion"))

    assert registry.load(pin) is registry.load(pin)


@pytest.mark.parametrize(
    ("name", "content"),
    [("model.pkl", b"{}"), ("model.joblib", b"\x00"), ("model.ubj", pickle.dumps({"a": 1}))],
)
def test_pickles_are_refused(registry: Registry, rows: pa.Table, tmp_path: Path, name: str, content: bytes) -> None:
    file = tmp_path / name
    file.write_bytes(content)

    with pytest.raises(ModelRefused, match="is a pickle"):
        registry.register("risk", file, rows)


def test_json_files_are_taken_too(registry: Registry, save: Save, booster: xgb.Booster, rows: pa.Table) -> None:
    manifest = registry.register("risk", save(booster, "trained.json"), rows)

    assert manifest.file == "model.json"
    assert registry.load(registry.resolve(ref("risk@1"))).score(rows).num_rows == len(rows)


def newer_json(booster: xgb.Booster) -> bytes:
    model = json.loads(booster.save_raw("json"))
    major, minor, _ = model["version"]
    model["version"] = [major, minor + 1, 0]
    return json.dumps(model).encode()


def test_a_file_of_a_newer_xgboost_cannot_be_registered(
    registry: Registry, booster: xgb.Booster, rows: pa.Table, tmp_path: Path
) -> None:
    file = tmp_path / "model.json"
    file.write_bytes(newer_json(booster))

    with pytest.raises(ModelRefused, match="was saved by XGBoost"):
        registry.register("risk", file, rows)


def test_a_file_of_a_newer_xgboost_is_not_loaded_though_its_digest_fits(
    registry: Registry, save: Save, booster: xgb.Booster, rows: pa.Table
) -> None:
    registry.register("risk", save(booster, "trained.json"), rows)
    content = newer_json(booster)
    (registry.folder / "risk/1/model.json").write_bytes(content)
    pin = rewrite(registry, lambda manifest: manifest.update(sha256=hashlib.sha256(content).hexdigest()))

    with pytest.raises(ModelRefused, match="was saved by XGBoost"):
        registry.load(pin)


def test_golden_rows_that_score_otherwise_are_refused(registry: Registry, registered: Manifest) -> None:
    def nudge(manifest: dict[str, Any]) -> None:
        manifest["golden"][1]["outputs"]["score"] += 1e-4

    with pytest.raises(ModelRefused, match="golden row 1 gives `score`"):
        registry.load(rewrite(registry, nudge))


def test_a_version_without_golden_rows_is_refused(registry: Registry, registered: Manifest) -> None:
    with pytest.raises(ModelRefused, match="no golden rows"):
        registry.load(rewrite(registry, lambda manifest: manifest.update(golden=[])))


def test_a_manifest_in_another_feature_order_is_refused(registry: Registry, registered: Manifest) -> None:
    with pytest.raises(ModelRefused, match="its file has features"):
        registry.load(rewrite(registry, lambda manifest: manifest["features"].reverse()))


def test_a_damaged_manifest_names_the_place(registry: Registry, registered: Manifest) -> None:
    with pytest.raises(ModelRefused, match="`features"):
        registry.load(rewrite(registry, lambda manifest: manifest["features"][0].update(dtype="text")))


def test_reference_rows_without_a_feature_are_refused(
    registry: Registry, save: Save, booster: xgb.Booster, rows: pa.Table
) -> None:
    with pytest.raises(ModelMismatch, match="`visits`"):
        registry.register("risk", save(booster), rows.drop_columns(["visits"]))

    assert registry.names() == ()


def test_reference_rows_that_cannot_be_scored_are_refused(
    registry: Registry, save: Save, booster: xgb.Booster, rows: pa.Table
) -> None:
    with pytest.raises(ModelMismatch, match="reference rows that it can score"):
        registry.register("risk", save(booster), rows.slice(0, 0))


@pytest.mark.parametrize("names", [["a[0]", "visits"], ["visits", "visits"]])
def test_feature_names_that_xgboost_refuses_are_refused(
    registry: Registry, rows: pa.Table, tmp_path: Path, names: list[str]
) -> None:
    matrix = xgb.DMatrix(rows.select(["visits", "amount"]).to_pandas(), rows["visits"].to_numpy())
    model = json.loads(xgb.train({}, matrix, 2).save_raw("json"))
    model["learner"]["feature_names"] = names
    file = tmp_path / "model.json"
    file.write_text(json.dumps(model))

    with pytest.raises(ModelRefused, match="does not accept"):
        registry.register("risk", file, rows)


def test_metrics_that_are_no_numbers_are_refused(
    registry: Registry, save: Save, booster: xgb.Booster, rows: pa.Table
) -> None:
    with pytest.raises(ModelRefused, match=r"`metrics\.auc`"):
        registry.register("risk", save(booster), rows, metrics={"auc": float("nan")})


def test_wrong_class_labels_are_refused(registry: Registry, save: Save, rows: pa.Table, fit: Fit) -> None:
    with pytest.raises(ModelRefused, match="2 class labels were given"):
        registry.register("risk", save(fit(rows, "multi:softprob")), rows, classes=("a", "b"))


def test_two_registering_at_once_get_two_versions(
    registry: Registry, save: Save, booster: xgb.Booster, rows: pa.Table
) -> None:
    file = save(booster)

    with ThreadPoolExecutor(6) as pool:
        manifests = list(pool.map(lambda n: registry.register("risk", file, rows, f"alias-{n}"), range(6)))

    assert sorted(int(m.version) for m in manifests) == [1, 2, 3, 4, 5, 6]
    assert registry.versions("risk") == ("1", "2", "3", "4", "5", "6")
    assert registry.aliases("risk") == {f"alias-{n}": m.version for n, m in enumerate(manifests)}
    assert [path.name for path in (registry.folder / "risk").glob(".incoming-*")] == []


def test_what_a_crashed_registration_left_is_no_version(
    registry: Registry, registered: Manifest, save: Save, booster: xgb.Booster, rows: pa.Table
) -> None:
    (registry.folder / "risk/.incoming-dead").mkdir()
    (registry.folder / "risk/2").mkdir()

    manifest = registry.register("risk", save(booster), rows)

    assert manifest.version == "3"
    assert registry.versions("risk") == ("1", "3")


@pytest.mark.parametrize("name", ["../risk", "..", "a/b", "", ".hidden", "a" * 101])
def test_names_never_leave_the_store(
    registry: Registry, save: Save, booster: xgb.Booster, rows: pa.Table, name: str
) -> None:
    with pytest.raises(ModelRefused, match="it is not a model name"):
        registry.register(name, save(booster), rows)
    with pytest.raises(ModelNotFound):
        registry.load(ModelPin(name, "1", "0" * 64))


@pytest.mark.parametrize("version", ["../1", "0", "01", "1/../1", "", "²"])
def test_versions_never_leave_the_store(registry: Registry, registered: Manifest, version: str) -> None:
    with pytest.raises(ModelNotFound):
        registry.load(ModelPin("risk", version, registered.sha256))


@pytest.mark.parametrize("alias", ["7", "../x", "", "a b"])
def test_what_is_no_alias_is_refused(registry: Registry, registered: Manifest, alias: str) -> None:
    with pytest.raises(ModelRefused, match="is not an alias"):
        registry.promote("risk", "1", alias)


def test_a_linked_version_is_refused(registry: Registry, registered: Manifest, tmp_path: Path) -> None:
    folder = registry.folder / "risk/1"
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")

    with pytest.raises((ModelRefused, ModelNotFound)):
        registry.load(ModelPin("risk", "1", registered.sha256))
    assert registry.versions("risk") == ()


def test_a_linked_model_file_is_refused(registry: Registry, registered: Manifest, tmp_path: Path) -> None:
    file = registry.folder / "risk/1/model.ubj"
    file.rename(tmp_path / "elsewhere.ubj")
    file.symlink_to(tmp_path / "elsewhere.ubj")

    with pytest.raises(ModelRefused, match="symbolic link"):
        registry.load(ModelPin("risk", "1", registered.sha256))


def test_importing_the_registry_imports_neither_xgboost_nor_pandas() -> None:
    code = (
        "import sys, penstock.models.registry, penstock.models.manifest; "
        "sys.exit(bool({'xgboost', 'pandas'} & set(sys.modules)))"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
