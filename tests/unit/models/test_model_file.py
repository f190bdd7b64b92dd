"""What a file says of itself, told without XGBoost."""

import json
import tomllib
from pathlib import Path

import pytest
import xgboost as xgb
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from penstock.errors import ModelRefused
from penstock.models.model_file import FileFacts, inspect_file, refuse_newer


@pytest.mark.parametrize("kind", ["ubj", "json"])
def test_format_and_writer_are_read_from_the_bytes(booster: xgb.Booster, kind: str) -> None:
    facts = inspect_file(bytes(booster.save_raw(kind)), "risk/1", "model")

    assert (facts.format, facts.saved_by_text) == (kind, xgb.__version__)


@pytest.mark.parametrize("kind", ["ubj", "json"])
def test_a_file_cut_off_anywhere_is_refused(booster: xgb.Booster, kind: str) -> None:
    content = bytes(booster.save_raw(kind))

    for end in {0, 1, 2, *range(3, len(content), max(1, len(content) // 60)), len(content) - 1}:
        with pytest.raises(ModelRefused):
            inspect_file(content[:end], "risk/1", "model")


def test_bytes_after_the_end_are_refused(booster: xgb.Booster) -> None:
    with pytest.raises(ModelRefused, match="bytes after its end"):
        inspect_file(bytes(booster.save_raw("ubj")) + b"}", "risk/1", "model.ubj")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"binf\x00\x00", "neither UBJSON nor JSON"),
        (b"", "neither UBJSON nor JSON"),
        (json.dumps({"learner": {}}).encode(), "does not say which XGBoost"),
        (b'{"version": ["3", 2, 0]}', "does not say which XGBoost"),
        (b'{"version": [3, 2', "damaged or not a model"),
        (b"[" * 200_000, "neither UBJSON nor JSON"),
        (b'{"a":' + b"[" * 200_000, "damaged or not a model"),
        (b"{U\x01a" + b"[" * 200, "nested too deeply"),
        (b"{U\x01a[$d#L\x7f\xff\xff\xff\xff\xff\xff\xff", "cut off"),
        (b"{i\xff", "cut off"),
    ],
)
def test_what_is_no_model_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(ModelRefused, match=message):
        inspect_file(content, "risk/1", "model")


@pytest.mark.parametrize(
    ("installed", "refused"), [("3.1.9", True), ("2.9.0", True), ("3.2.0", False), ("4.0.0", False)]
)
def test_only_a_newer_major_or_minor_is_refused(installed: str, refused: bool) -> None:
    facts = inspect_file(b'{"version": [3, 2, 7]}', "risk/1", "model.json")

    if refused:
        with pytest.raises(ModelRefused, match=r"saved by XGBoost 3\.2\.7"):
            refuse_newer(facts, installed, "risk/1")
    else:
        refuse_newer(facts, installed, "risk/1")


@pytest.mark.parametrize(
    ("saved_by", "installed", "python", "remedy"),
    [
        ("3.4.1", "3.2.0", (3, 11), 'environment of Python 3.12 or later with `pip install "xgboost>=3.4,<4"`'),
        ("3.4.1", "3.3.0", (3, 13), 'Run `pip install "xgboost>=3.4,<4"`, or train with 3.3.0'),
        ("3.2.0", "3.1.0", (3, 11), 'Run `pip install "xgboost>=3.2,<4"`, or train with 3.1.0'),
        ("4.0.0", "3.4.1", (3, 13), "Penstock works with XGBoost below 4: train with such a version"),
    ],
)
def test_the_remedy_for_a_newer_file_is_an_install_that_can_be_made(
    saved_by: str, installed: str, python: tuple[int, int], remedy: str
) -> None:
    facts = FileFacts("json", tuple(map(int, saved_by.split("."))))  # type: ignore[arg-type]  # three numbers

    with pytest.raises(ModelRefused) as refused:
        refuse_newer(facts, installed, "risk/1", python)

    assert f"it was saved by XGBoost {saved_by}, and {installed} is installed here" in refused.value.reason
    assert remedy in refused.value.reason


def test_the_remedy_agrees_with_what_penstock_requires() -> None:
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    [needed] = [r for r in project["dependencies"] if r.startswith("xgboost")]

    assert Requirement(needed).specifier == SpecifierSet(">=3.2,<4")
