"""A process that only scores imports XGBoost without scikit-learn, and scores the same."""

import subprocess
import sys
from pathlib import Path

import pytest

SCORE = """
import sys
from pathlib import Path
if sys.argv[1] == "light":
    from penstock.models.booster_loading import load_booster
    load_booster()
import penstock.models.booster
print("sklearn" in sys.modules)
from penstock.models.registry import Registry
from penstock.spec.steps import ModelRef
from tests.shop import payments
registry = Registry(Path(sys.argv[2]))
rows = payments(days=1, a_day=400, seed=5).select(["amount", "items", "country", "first"])
model = registry.load(registry.resolve(ModelRef.model_validate("card-risk@champion")))
print(model.score(rows)["score"].to_pylist())
import sklearn.base
print(hasattr(sklearn.base, "BaseEstimator"))
"""


def run_script(script: str, *arguments: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_scores_are_the_same_without_the_classes_for_scikit_learn(tmp_path: Path) -> None:
    from tests.shop import train_model

    train_model(tmp_path)

    plain, light = (run_script(SCORE, kind, str(tmp_path)) for kind in ("plain", "light"))

    assert (plain[0], light[0]) == ("True", "False")
    assert light[1:] == plain[1:]


@pytest.mark.parametrize("first", ["xgboost", "sklearn"])
def test_what_is_loaded_already_stays_as_it_is(first: str) -> None:
    script = (
        f"import sys, {first}\n"
        "from penstock.models.booster_loading import load_booster\n"
        "load_booster()\n"
        "import xgboost\n"
        "print(sys.modules['sklearn'].__name__, xgboost.XGBClassifier(n_estimators=3).n_estimators)\n"
    )

    assert run_script(script) == ["sklearn 3"]
