"""The device that predicts: a GPU if one is asked for and can, else the processor."""

import json
import logging
from functools import lru_cache

import numpy as np
import xgboost as xgb

from penstock.models.booster.frames import first_line
from penstock.settings import Device

logger = logging.getLogger(__name__)


@lru_cache
def available_device(wanted: Device) -> Device:
    """Return the device that can predict: without a GPU it is the processor, with one warning a process."""
    fault = find_gpu_fault() if wanted == "cuda" else None
    if fault is None:
        return wanted
    logger.warning("PENSTOCK_DEVICE is cuda, and %s: the processor predicts", fault)
    return "cpu"


@lru_cache
def find_gpu_fault() -> str | None:
    """Return why no GPU can predict here, None if one can. A tiny fit shows which device XGBoost uses."""
    try:
        with xgb.config_context(verbosity=0):  # it warns twice of each booster that falls back
            tried = xgb.train({"device": "cuda"}, xgb.DMatrix(np.array([[0.0], [1.0]]), [0.0, 1.0]), 1)
    except xgb.core.XGBoostError as error:
        return f"XGBoost says: {first_line(error)}"
    used = json.loads(tried.save_config())["learner"]["generic_param"]["device"]
    return None if used.startswith("cuda") else "XGBoost finds no GPU that it can use"
