"""What the model store reads lies in the store: whatever a name, a link, an alias or a manifest says."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from penstock.cli.app import app
from penstock.errors import ModelError, ModelNotFound, ModelRefused
from penstock.models import registry as registry_module
from penstock.models.registry import Registry
from penstock.spec.steps import ModelRef
from tests.shop import train_model

OUT_OF_THE_STORE = (
    "../card-risk",
    "..",
    ".",
    "./card-risk",
    "card-risk/../card-risk",
    "/etc",
    "..%2fcard-risk",
    "%2e%2e",
    "\u2024\u2024/card-risk",  # dots that are no dots
    "\uff0e\uff0e/card-risk",
    "card-risk\n",
    "card-risk\0",
    "card\u2215risk",  # a slash that is no slash
    "~root",
    "card-risk\\..\\other",
    ".incoming-x",
    "-risk",
    "",
)


@pytest.fixture
def store(tmp_path: Path) -> Registry:
    return train_model(tmp_path / "store")


def version(store: Registry) -> Path:
    return store.folder / "card-risk" / "1"


def load(store: Registry, selector: str = "champion") -> None:
    registry_module._load_verified.cache_clear()
    store.load(store.resolve(ModelRef(name="card-risk", selector=selector)))


def edit_manifest(store: Registry, **changes: Any) -> None:
    file = version(store) / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize("name", OUT_OF_THE_STORE)
def test_a_name_that_leads_out_of_the_store_names_no_model(store: Registry, name: str) -> None:
    shutil.copytree(store.folder / "card-risk", store.folder.parent / "card-risk")  # it would be found there

    with pytest.raises(ModelNotFound):
        store.resolve(ModelRef(name=name, selector="1"))
    with pytest.raises(ModelNotFound):
        store.promote(name, "1", "champion")
    with pytest.raises(ModelNotFound):
        store.resolve(ModelRef(name="card-risk", selector=f"../card-risk/{name}"))


@pytest.mark.parametrize("name", OUT_OF_THE_STORE)
def test_nothing_is_registered_outside_of_the_store(store: Registry, name: str, tmp_path: Path) -> None:
    before = sorted(str(path) for path in tmp_path.rglob("*"))

    with pytest.raises(ModelRefused):
        store.register(name, version(store) / "model.ubj", None)  # type: ignore[arg-type] # refused before it is read

    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


def test_a_model_in_the_spec_cannot_be_a_path() -> None:
    for text in ("../x@1", "x@../1", "/x@1", "x/y@1", "x@1\n"):
        with pytest.raises(ValueError, match="is not a model"):
            ModelRef.model_validate(text)


@pytest.mark.parametrize("linked", ["card-risk", "card-risk/1", "card-risk/1/manifest.json", "card-risk/1/model.ubj"])
def test_a_link_in_the_place_of_a_part_is_not_followed(store: Registry, linked: str, tmp_path: Path) -> None:
    part = store.folder / linked
    part.rename(tmp_path / "elsewhere")
    part.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ModelError):
        load(store, "1")


@pytest.mark.parametrize("linked", ["aliases.json", ".lock"])
def test_a_link_in_the_place_of_the_aliases_is_not_followed(store: Registry, linked: str, tmp_path: Path) -> None:
    part = store.folder / "card-risk" / linked
    part.unlink()
    (tmp_path / "elsewhere.json").write_text('{"aliases": {"champion": "1"}, "history": []}')
    part.symlink_to(tmp_path / "elsewhere.json")

    with pytest.raises(ModelRefused, match="symbolic link"):
        store.promote("card-risk", "1", "challenger")


def test_a_link_that_comes_after_the_look_is_not_followed(
    store: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (version(store) / "model.ubj").rename(tmp_path / "elsewhere")
    (version(store) / "model.ubj").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setattr("penstock.models.store_files.refuse_links", lambda *_: None)  # as if it had not been there yet

    with pytest.raises(OSError, match="symbolic links"):
        load(store)


def test_a_pipe_in_the_place_of_a_manifest_is_not_waited_for(store: Registry) -> None:
    (version(store) / "manifest.json").unlink()
    os.mkfifo(version(store) / "manifest.json")

    with pytest.raises(ModelError):
        load(store, "1")


def test_an_alias_cannot_name_a_path(store: Registry) -> None:
    file = store.folder / "card-risk" / "aliases.json"
    file.write_text('{"aliases": {"champion": "../../elsewhere/1"}, "history": []}')

    with pytest.raises(ModelNotFound):
        load(store)


@pytest.mark.parametrize("file", ["../2/model.ubj", "/etc/passwd", "model.pkl"])
def test_a_manifest_cannot_name_another_file(store: Registry, file: str) -> None:
    edit_manifest(store, file=file)

    with pytest.raises(ModelRefused, match=r"manifest is damaged: `file`"):
        load(store)


@pytest.mark.parametrize("changes", [{"name": "other"}, {"version": "2"}, {"name": "../card-risk"}])
def test_a_manifest_that_is_not_its_folders_own_is_refused(store: Registry, changes: dict[str, str]) -> None:
    edit_manifest(store, **changes)

    with pytest.raises(ModelRefused, match="manifest"):
        load(store)


def test_a_huge_manifest_is_refused_before_it_is_parsed(store: Registry) -> None:
    with (version(store) / "manifest.json").open("r+b") as file:
        file.truncate(registry_module.MANIFEST_BYTES + 1)

    with pytest.raises(ModelRefused, match="larger than"):
        load(store)


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a":' * 100_000, b"\0", b"\xff", b"9" * 100_000])
def test_a_manifest_that_was_made_to_do_harm_is_refused(store: Registry, content: bytes) -> None:
    (version(store) / "manifest.json").write_bytes(content)

    with pytest.raises(ModelRefused, match="manifest is damaged"):
        load(store)


def test_bytes_that_are_not_those_registered_never_reach_xgboost(
    store: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = version(store) / "model.ubj"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    monkeypatch.setattr("penstock.models.booster.open_version", lambda *_: pytest.fail("it was opened"))

    with pytest.raises(ModelRefused, match="its bytes changed"):
        load(store)


def test_a_model_is_registered_through_a_link_as_a_copy(store: Registry, tmp_path: Path, monkeypatch: Any) -> None:
    import pyarrow.parquet as pq

    from tests.shop import payments

    monkeypatch.setenv("PENSTOCK_MODEL_STORE", str(store.folder))
    pq.write_table(payments(days=1), tmp_path / "rows.parquet")
    (tmp_path / "link.ubj").symlink_to(version(store) / "model.ubj")

    arguments = ["models", "register", "card-risk", str(tmp_path / "link.ubj"), "--reference"]
    result = CliRunner().invoke(app, [*arguments, str(tmp_path / "rows.parquet")])

    assert result.exit_code == 0, result.output
    assert not (store.folder / "card-risk" / "2" / "model.ubj").is_symlink()
