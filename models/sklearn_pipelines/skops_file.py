"""Load a Pipeline from a `.skops` file: never a pickle, and only types that skops or this module names."""

import io
import zipfile
from pathlib import Path
from typing import Any, Never

from penstock.errors import ModelRefused, SettingsError
from penstock.models.model_file import inspect_serialized, refuse_newer

TRUSTED = (
    "numpy.dtype",
    "numpy.number",
    "numpy.object_",
    "sklearn.compose._column_transformer.make_column_selector",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBClassifier",
    "xgboost.sklearn.XGBRanker",
    "xgboost.sklearn.XGBRegressor",
    "xgboost.sklearn.XGBRFClassifier",
    "xgboost.sklearn.XGBRFRegressor",
)
"""Types that skops does not trust by itself. A booster's bytes are checked before they are loaded."""
ESTIMATORS = tuple(name.rsplit(".", 1)[1] for name in TRUSTED if name.startswith("xgboost.sklearn"))
_SAVE = 'Save the fitted Pipeline with `skops.io.dump(pipeline, "model.skops")`.'


def load_pipeline(model: str, path: Path, installed: str) -> Any:
    """Return the fitted Pipeline of a file.

    Args:
        installed: the version of XGBoost that is installed.

    Raises:
        ModelRefused: the file is no skops file, has other types, or is no Pipeline that ends with XGBoost.
        SettingsError: skops or scikit-learn is not installed.
    """
    content = path.read_bytes()
    if not zipfile.is_zipfile(io.BytesIO(content)):
        why = "A pickle is never opened, because that would run its code."
        _refuse(model, f"{path.name} is not a skops file. {why} {_SAVE}")
    _check_boosters(model, path, content, installed)
    loaded = _load_named_types(model, path, content)
    kind = type(loaded).__name__
    if kind != "Pipeline":
        remedy = "Register a model without steps with `penstock models register`." if kind in ESTIMATORS else _SAVE
        _refuse(model, f"{path.name} has a {kind}, not a Pipeline. {remedy}")
    last = type(loaded.steps[-1][1]).__name__
    if last not in ESTIMATORS:
        _refuse(model, f"the last step `{loaded.steps[-1][0]}` is a {last}, not one of {', '.join(ESTIMATORS)}.")
    return loaded


def _load_named_types(model: str, path: Path, content: bytes) -> Any:
    """Load a file if skops or `TRUSTED` names all of its types."""
    try:
        from skops import io as skops_io
    except ImportError:
        raise SettingsError(
            "`penstock models import-sklearn` needs skops and scikit-learn", "Install `penstock[sklearn]`."
        ) from None
    try:
        foreign = sorted(set(skops_io.get_untrusted_types(data=content)) - set(TRUSTED))
        if not foreign:
            return skops_io.loads(content, trusted=list(TRUSTED))
    except (ValueError, TypeError, LookupError, AttributeError, ImportError, OSError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        _refuse(model, f"{path.name} cannot be loaded: {reason}. {_SAVE}")
    names = ", ".join(f"`{name}`" for name in foreign)
    remedy = "Take the steps with them out of the Pipeline, and compute the same in the features query."
    _refuse(model, f"{path.name} has types that are not loaded: {names}. {remedy}")


def _check_boosters(model: str, path: Path, content: bytes, installed: str) -> None:
    """Check the version and the structure of each booster in the file, before XGBoost reads it."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            if name.endswith(".bin"):
                refuse_newer(inspect_serialized(archive.read(name), model, path.name), installed, model)


def _refuse(model: str, reason: str) -> Never:
    raise ModelRefused(model, reason)
