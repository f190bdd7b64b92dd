"""Import XGBoost in a process that only scores."""

import sys


def load_booster() -> None:
    """Import `booster` and XGBoost without scikit-learn, which is most of XGBoost's import time.

    XGBoost works without it, and scoring uses none of its classes for scikit-learn. Do not call this in a process that
    runs a user's code: `XGBClassifier` does not work there.
    """
    if "xgboost" in sys.modules or "sklearn" in sys.modules:
        return
    sys.modules["sklearn"] = None  # type: ignore[assignment]  # then its import fails
    try:
        import penstock.models.booster  # noqa: F401
    finally:
        del sys.modules["sklearn"]
