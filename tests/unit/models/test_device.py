"""Where a model predicts: on a GPU if one is asked for and there, else on the processor, with one warning."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import xgboost as xgb

from penstock.deployments.doctor.stores import check_gpu
from penstock.models.booster import available_device, find_gpu_fault
from penstock.models.registry import Registry
from penstock.run_types import ModelPin
from penstock.spec.steps import ModelRef

Save = Callable[..., Path]
FAULT = find_gpu_fault()
without_gpu = pytest.mark.skipif(FAULT is None, reason="there is a GPU")
with_gpu = pytest.mark.skipif(FAULT is not None, reason=str(FAULT))


@pytest.fixture
def pins(registry: Registry, save: Save, booster: xgb.Booster, rows: pa.Table) -> list[ModelPin]:
    for name in ("one", "two"):
        registry.register(name, save(booster), rows, "champion")
    return [registry.resolve(ModelRef.model_validate(f"{name}@champion")) for name in ("one", "two")]


@without_gpu
def test_without_a_gpu_models_predict_on_the_processor_with_one_warning(
    registry: Registry, pins: list[ModelPin], rows: pa.Table, caplog: pytest.LogCaptureFixture
) -> None:
    available_device.cache_clear()
    caplog.set_level(logging.WARNING)

    loaded = [Registry(registry.folder, "cuda").load(pin) for pin in pins]

    for model, pin in zip(loaded, pins, strict=True):
        assert model.score(rows).equals(registry.load(pin).score(rows))
    assert caplog.messages == [
        "PENSTOCK_DEVICE is cuda, and XGBoost finds no GPU that it can use: the processor predicts"
    ]


@without_gpu
def test_looking_for_a_gpu_prints_nothing_of_xgboosts_own(capfd: pytest.CaptureFixture[str]) -> None:
    find_gpu_fault.cache_clear()

    assert find_gpu_fault() == "XGBoost finds no GPU that it can use"

    told = capfd.readouterr()
    assert (told.out, told.err) == ("", "")


@without_gpu
def test_the_doctor_tells_of_a_gpu_that_is_not_there() -> None:
    [finding] = check_gpu()

    assert finding.state == "warning"
    assert "XGBoost finds no GPU" in finding.what


def test_the_way_to_a_gpu_gives_the_same_scores(registry: Registry, pins: list[ModelPin], rows: pa.Table) -> None:
    model = registry.load(pins[0])

    assert replace(model, device="cuda").score(rows).equals(model.score(rows))


@with_gpu
def test_a_gpu_predicts_what_the_processor_does(registry: Registry, pins: list[ModelPin], rows: pa.Table) -> None:
    there, here = Registry(registry.folder, "cuda").load(pins[0]), registry.load(pins[0])

    scores = there.score(rows)["score"].to_numpy()

    assert np.allclose(scores, here.score(rows)["score"].to_numpy(), rtol=1e-5)
    assert json.loads(there.booster.save_config())["learner"]["generic_param"]["device"].startswith("cuda")
