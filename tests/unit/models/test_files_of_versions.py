"""Files of XGBoost 1.0 to 3.4 that lie under `tests/fixtures/xgboost_files`, as the installed XGBoost reads them."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import xgboost as xgb

from penstock.errors import ModelMismatch, ModelRefused
from penstock.models.booster import ModelVersion
from penstock.models.model_file import inspect_file
from penstock.models.registry import Registry

FILES = Path("tests/fixtures/xgboost_files")
OUTPUTS = {
    name: outputs
    for listing in sorted(FILES.glob("*-outputs.json"))
    for name, outputs in json.loads(listing.read_text()).items()
}
NAMES = ["age", "power", "claims"]
CITIES = ("Lyon", "Bonn", "Pisa")


def version_of(file: str) -> tuple[int, ...]:
    return tuple(map(int, file.split("-", maxsplit=1)[0].split(".")))


READABLE = [f for f in OUTPUTS if version_of(f)[:2] <= tuple(map(int, xgb.__version__.split(".")[:2]))]
NEWER = [f for f in OUTPUTS if f not in READABLE]


def rows(*columns: str) -> pa.Table:
    return pa.Table.from_pylist(json.loads((FILES / "rows.json").read_text())).select(list(columns))


def register(registry: Registry, file: str, **more: object) -> ModelVersion:
    outputs = np.asarray(OUTPUTS[file])
    expected = {"score": outputs} if outputs.ndim == 1 else {f"score_{at}": outputs[:, at] for at in range(3)}
    reference = rows(*NAMES, *(["city"] if "categories" in file else []))
    categories = {"city": CITIES} if "categories" in file else {}
    manifest = registry.register(
        "old", FILES / file, reference, expected=pa.table(expected), categories=categories, **more
    )  # type: ignore[arg-type]  # keywords of each test
    assert manifest.verified_rows == reference.num_rows
    return registry.load(registry.resolve(f"old@{manifest.version}"))


@pytest.mark.parametrize("file", READABLE)
def test_a_file_of_each_version_scores_as_that_version_predicted(registry: Registry, file: str) -> None:
    model = register(registry, file)

    assert model.manifest.feature_names[:3] == tuple(NAMES)
    assert model.manifest.saved_by == file.split("-", maxsplit=1)[0]
    scored = np.column_stack(
        [model.score(rows(*NAMES, "city"))[name].to_numpy() for name in model.manifest.score_columns]
    )
    np.testing.assert_allclose(scored, np.reshape(OUTPUTS[file], scored.shape), rtol=1e-6)


@pytest.mark.parametrize("file", NEWER)
def test_a_file_of_a_newer_version_is_refused(registry: Registry, file: str) -> None:
    version = ".".join(map(str, version_of(file)[:2]))

    with pytest.raises(ModelRefused, match=rf"saved by XGBoost {version}.*pip install .xgboost>={version},<4"):
        register(registry, file)


def test_versions_before_and_after_the_installed_one_are_among_the_files() -> None:
    assert {version_of(f)[0] for f in READABLE} >= {1, 2, 3}
    assert NEWER or xgb.__version__ >= "3.4"


@pytest.mark.parametrize("version", ["1.0.2", "1.7.6", "3.2.0"])
@pytest.mark.parametrize(
    ("file", "text", "dtypes"),
    [
        ("names.txt", "age\npower\nclaims\n\n", ["float"] * 3),
        ("names.txt", "\ufeffage\r\npower\r\nclaims", ["float"] * 3),
        ("model.fmap", "0 age q\n1\tpower\tfloat\n2 claims int\n", ["float", "float", "int"]),
        ("model.fmap", "2 claims int\n0 age q\n1 power q", ["float", "float", "int"]),
    ],
)
def test_names_for_a_file_without_any_come_from_a_file(
    registry: Registry, tmp_path: Path, version: str, file: str, text: str, dtypes: list[str]
) -> None:
    names = tmp_path / file
    names.write_text(text, newline="")

    manifest = registry.register(
        "old", FILES / f"{version}-unnamed.json", rows("claims", "power", "age"), features=names
    )

    assert [f.name for f in manifest.features] == NAMES
    assert [f.dtype for f in manifest.features] == dtypes
    model = registry.load(registry.resolve("old@1"))
    scored = model.score(rows("claims", "age", "power"))["score"].to_numpy()
    np.testing.assert_allclose(scored, OUTPUTS[f"{version}-unnamed.json"], rtol=1e-6)


def test_columns_of_the_reference_rows_name_features_only_if_outputs_verify_it(registry: Registry) -> None:
    file = FILES / "3.2.0-unnamed.json"
    outputs = pa.array(OUTPUTS[file.name])

    with pytest.raises(ModelRefused, match="3 features without names"):
        registry.register("old", file, rows(*NAMES))
    with pytest.raises(ModelRefused, match="outputs differ"):
        registry.register("old", file, rows("power", "age", "claims"), expected=pa.table({"score": outputs}))
    with pytest.raises(ModelRefused, match="reference rows have 4 columns"):
        registry.register("old", file, rows(*NAMES, "city"), expected=pa.table({"score": outputs}))
    manifest = registry.register("old", file, rows(*NAMES).append_column("p", outputs), expected="p")

    assert manifest.feature_names == tuple(NAMES)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (["age", "power"], "its file has 3 features, and 2 names are given"),
        (["age", "power", "power"], "nor a name twice: .'power'"),
        (["age", "power", ""], "an empty name"),
        (["age [y]", "power", "claims"], r"does not accept `\[`.*give the columns these names in the features query"),
    ],
)
def test_names_that_cannot_be_are_refused(registry: Registry, features: list[str], message: str) -> None:
    with pytest.raises(ModelRefused, match=message):
        registry.register("old", FILES / "3.2.0-unnamed.json", rows(*NAMES), features=features)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 age q\n1 power\n", "line 2 of m.fmap is not a line of an fmap"),
        ("0 age q\n0 power q\n", "line 2"),
        ("age q\n", "line 1"),
        ("1 age q\n2 power q\n3 claims q\n", "does not number its features 0, 1, 2"),
    ],
)
def test_a_damaged_fmap_is_refused_with_its_line(registry: Registry, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "m.fmap").write_text(text)

    with pytest.raises(ModelRefused, match=message):
        registry.register("old", FILES / "3.2.0-unnamed.json", rows(*NAMES), features=tmp_path / "m.fmap")


def test_other_names_than_those_of_the_file_are_refused(registry: Registry) -> None:
    with pytest.raises(ModelRefused, match=r"has other feature names.*`age`, `power`, `claims`"):
        registry.register("old", FILES / "3.2.0-named.json", rows(*NAMES), features=["a", "b", "c"])
    assert registry.register("old", FILES / "3.2.0-named.json", rows(*NAMES), features=NAMES).version == "1"


def test_names_of_positions_are_no_names(registry: Registry, tmp_path: Path) -> None:
    booster = xgb.Booster(model_file=FILES / "3.2.0-unnamed.json")
    booster.feature_names = ["f0", "f1", "f2"]
    booster.save_model(tmp_path / "positions.json")

    registry.register("old", tmp_path / "positions.json", rows(*NAMES), features=NAMES)

    scored = registry.load(registry.resolve("old@1")).score(rows(*NAMES))["score"].to_numpy()
    np.testing.assert_allclose(scored, OUTPUTS["3.2.0-unnamed.json"], rtol=1e-6)


def test_categories_can_be_given_for_a_file_without_types(registry: Registry, tmp_path: Path) -> None:
    frame = rows(*NAMES, "city").to_pandas()
    codes = np.array([CITIES.index(city) for city in frame["city"]], float)
    data = np.column_stack([frame["power"], codes])
    booster = xgb.train({"max_depth": 3, "base_score": 0.4}, xgb.DMatrix(data, codes == 1), 4)
    booster.save_model(tmp_path / "codes.ubj")
    expected = pa.table({"score": booster.predict(xgb.DMatrix(data)).astype(float)})

    manifest = registry.register(
        "old", tmp_path / "codes.ubj", rows("power", "city"), expected=expected, categories={"city": CITIES}
    )

    assert manifest.features[1].categories == CITIES
    model = registry.load(registry.resolve("old@1"))
    np.testing.assert_allclose(model.score(rows("power", "city"))["score"].to_numpy(), expected["score"].to_numpy())
    unseen = pa.table({"power": [90.0], "city": ["Oslo"]})
    assert [m.why for m in model.refused_rows(unseen)[0]] == ["unseen category"]


def test_a_wrapper_of_xgboost_1_gives_its_missing_value_and_its_labels(registry: Registry, tmp_path: Path) -> None:
    content = json.loads((FILES / "1.3.3-wrapper.json").read_text())
    wrapper = json.loads(content["learner"]["attributes"]["scikit_learn"])
    wrapper |= {"missing": -1.0, "_le": {"classes_": ["low", "mid", "high"]}}
    content["learner"]["attributes"]["scikit_learn"] = json.dumps(wrapper)
    file = tmp_path / "wrapper.json"
    file.write_text(json.dumps(content))

    manifest = registry.register("old", file, rows(*NAMES), features=NAMES)

    assert (manifest.missing, manifest.classes) == (-1.0, ("low", "mid", "high"))
    with pytest.raises(ModelRefused, match="says that -1 is the missing value, and -9 is given"):
        registry.register("old", file, rows(*NAMES), features=NAMES, missing=-9)


def test_a_best_round_that_the_file_does_not_have_is_refused(registry: Registry, tmp_path: Path) -> None:
    booster = xgb.Booster(model_file=FILES / "3.2.0-stopped.json")
    rounds = booster.num_boosted_rounds()
    booster.set_attr(best_iteration=str(rounds))
    booster.save_model(tmp_path / "cut.json")

    with pytest.raises(ModelRefused, match=f"round {rounds} is the best, counted from 0, and has {rounds}"):
        registry.register("old", tmp_path / "cut.json", rows(*NAMES))
    assert registry.register("old", tmp_path / "cut.json", rows(*NAMES), iterations=rounds).iterations == rounds


def test_a_reference_without_a_column_is_named(registry: Registry) -> None:
    with pytest.raises(ModelMismatch, match="claims"):
        registry.register("old", FILES / "1.0.2-named.json", rows("age", "power"), features=NAMES)


@pytest.mark.parametrize("file", sorted(p.name for p in FILES.glob("*.ubj")))
def test_the_writer_is_read_from_each_file(file: str) -> None:
    facts = inspect_file((FILES / file).read_bytes(), "old", file)

    assert (facts.saved_by_text, facts.format) == (file.split("-", maxsplit=1)[0], "ubj")
