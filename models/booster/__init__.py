"""The only room that knows XGBoost: open a verified file, score an Arrow table, explain its scores, fit a booster."""

from penstock.models.booster.contributions import Contributions
from penstock.models.booster.devices import available_device, find_gpu_fault
from penstock.models.booster.fitting import Fitted, fit_booster
from penstock.models.booster.opening import open_booster, open_version
from penstock.models.booster.version import ModelInputs, ModelVersion

__all__ = [
    "Contributions",
    "Fitted",
    "ModelInputs",
    "ModelVersion",
    "available_device",
    "find_gpu_fault",
    "fit_booster",
    "open_booster",
    "open_version",
]
