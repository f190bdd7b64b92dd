"""Open a model file whose bytes were checked, and a registered version whose digest was verified."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xgboost as xgb

from penstock.errors import ModelRefused
from penstock.models.booster.devices import available_device
from penstock.models.booster.frames import first_line, kind_of, read_categories
from penstock.models.booster.version import ModelVersion
from penstock.models.booster_facts import BoosterFacts, check_manifest
from penstock.models.category_names import StoredNames
from penstock.models.feature_names import are_positions, check_names
from penstock.models.golden import check_golden_rows, golden_table
from penstock.models.manifest import Feature, Manifest
from penstock.models.model_file import inspect_file, refuse_newer
from penstock.settings import Device
from penstock.wording import plural

_DTYPES: dict[str, Any] = {"float": "float", "q": "float", "int": "int", "i": "bool", "c": "category"}


def open_booster(
    content: bytes, model: str, file_name: str, name_features: Callable[[int], tuple[Feature, ...]]
) -> tuple[xgb.Booster, BoosterFacts]:
    """Check the bytes of a model file, then open it from memory.

    Args:
        name_features: gives the features of a file without names, by their number.

    Raises:
        ModelRefused: wrong format, saved by a newer XGBoost, or not loadable.
    """
    file = inspect_file(content, model, file_name)
    refuse_newer(file, xgb.__version__, model)
    booster = xgb.Booster()
    try:
        with xgb.config_context(verbosity=0):  # it warns of files from before 1.6, which it reads
            booster.load_model(bytearray(content))
    except xgb.core.XGBoostError as error:
        raise ModelRefused(model, f"XGBoost cannot read {file_name}: {first_line(error)}") from None
    learner = json.loads(booster.save_config())["learner"]
    objective, shape = learner["learner_train_param"]["objective"], learner["learner_model_param"]
    best, linear = booster.attr("best_iteration"), kind_of(booster) == "gblinear"
    named = not are_positions(booster.feature_names)
    given = () if named else name_features(booster.num_features())
    wrapper = json.loads(booster.attr("scikit_learn") or "{}")
    facts = BoosterFacts(
        features=_read_features(booster, model, given),
        objective=objective,
        classes=int(shape["num_class"]),
        targets=int(shape["num_target"]),
        best_iteration=None if best is None or linear else int(best),
        rounds=None if linear else booster.num_boosted_rounds(),
        saved_by=file.saved_by_text,
        format=file.format,
        may_be_custom=_may_be_custom(booster, objective, shape, file.saved_by),
        stored_names={n: names for n, names in read_categories(booster).items() if isinstance(names, StoredNames)},
        named=named,
        typed=booster.feature_types is not None,
        labels=_read_labels(wrapper),
        missing=_read_missing(wrapper),
    )
    return booster, facts


def open_version(manifest: Manifest, content: bytes, device: Device = "cpu") -> ModelVersion:
    """Open a registered version whose digest was verified, and check it against its manifest.

    Args:
        device: what predicts, the golden rows too.

    Raises:
        ModelRefused: features, objective or categories differ, or a golden row gets another score than expected.
    """
    booster, facts = open_booster(content, manifest.label, manifest.file, lambda _: manifest.features)
    check_manifest(facts, manifest)
    device = "cpu" if kind_of(booster) == "gblinear" else available_device(device)
    if device == "cuda":
        booster.set_param({"device": device})
    version = ModelVersion(manifest, booster, device)
    for by_frame in (False, True):  # as few rows are scored, and as many are
        scored = version.score(golden_table(manifest), by_frame=by_frame)
        check_golden_rows(manifest, scored, xgb.__version__)
    return version


def _read_features(booster: xgb.Booster, model: str, given: Sequence[Feature]) -> tuple[Feature, ...]:
    """Return the features of the file.

    Args:
        given: the features of a file without names. They give it names and, if it has none, types.
    """
    types = booster.feature_types
    if given:
        if len(given) != booster.num_features():
            raise ModelRefused(
                model,
                f"its file has {plural(booster.num_features(), 'feature')}, and {plural(len(given), 'name')} are "
                "given. Give one for each.",
            )
        booster.feature_names = [feature.name for feature in given]
        if types is None:
            return tuple(given)
    names = list(booster.feature_names or ())
    check_names(model, names)
    exported = read_categories(booster)
    known = {n: tuple(str(c) for c in names) for n, names in exported.items() if not isinstance(names, StoredNames)}
    by_name = {feature.name: feature.categories for feature in given}
    return tuple(
        Feature(name=name, dtype=_DTYPES[kind], categories=known.get(name, by_name.get(name, ())))
        for name, kind in zip(names, types or ["float"] * len(names), strict=True)
    )


def _read_labels(wrapper: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the labels of the classes that wrappers of XGBoost 1 store. Later ones store none."""
    encoder = wrapper.get("_le")
    labels = encoder.get("classes_") if isinstance(encoder, dict) else wrapper.get("classes_")
    return tuple(str(label) for label in labels) if isinstance(labels, list) else ()


def _read_missing(wrapper: Mapping[str, Any]) -> float | None:
    """Return the missing value that wrappers of XGBoost 1 store. None for NaN."""
    missing = wrapper.get("missing")
    return float(missing) if isinstance(missing, int | float) and np.isfinite(missing) else None


def _may_be_custom(
    booster: xgb.Booster, objective: str, shape: Mapping[str, str], saved_by: tuple[int, int, int]
) -> bool:
    """Return whether a custom objective may have fitted it. The file then names XGBoost's default objective instead.

    XGBoost's own objectives estimate the base score from the labels, custom ones leave it as it was given.
    """
    base = [float(number) for number in shape["base_score"].strip("[]").split(",")]
    if objective == "reg:squarederror":
        estimator = json.loads(booster.attr("scikit_learn") or "{}").get("_estimator_type")
        return estimator == "classifier" or shape.get("boost_from_average") != "1" or set(base) == {0.5}
    return objective == "multi:softmax" and set(base) == {0.5} and saved_by >= (3, 1, 0)
