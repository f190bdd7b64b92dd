"""Category names beyond ASCII, which XGBoost 3.2.0 cuts by characters: such a model scores as its ASCII twin does."""

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xgboost as xgb

from penstock.errors import ModelRefused
from penstock.models.booster import ModelVersion
from penstock.models.category_names import StoredNames
from penstock.models.registry import Registry
from penstock.models.training import train
from penstock.run_types import Misfit

Save = Callable[..., Path]
ROWS = 400
GERMAN = ("Berlin", "Köln", "München", "Zürich")
JAPANESE = ("名古屋", "大阪", "東京", "福岡市")
MIXED = ("x", "naïve", "日本", "😀😀", "Ω", "İstanbul", "zz")
COLLIDING = ("ü", "1a", "bc", "2a", "bd")
"""XGBoost stores the third and the fifth under one name, and scores one of them as the other."""


def codes_of(names: Sequence[str]) -> np.ndarray:
    return np.random.default_rng(3).integers(-1, len(names), ROWS)


def rows_of(names: Sequence[str], *, encoded: bool = False) -> pa.Table:
    """Rows as people have them: the city as text, missing in some."""
    codes = codes_of(names)
    city = pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32), mask=codes < 0), pa.array(names))
    late = (codes % 2 == 1) ^ (np.random.default_rng(4).random(ROWS) < 0.1)
    return pa.table(
        {
            "city": city if encoded else city.cast(pa.string()),
            "size": np.random.default_rng(5).normal(size=ROWS),
            "late": late.astype(int),
        }
    )


def fit_frame(names: Sequence[str], **columns: pd.Categorical) -> xgb.Booster:
    """Fit as somebody with pandas would."""
    rows = rows_of(names)
    frame = pd.DataFrame(
        {"city": pd.Categorical.from_codes(codes_of(names), categories=list(names)), "size": rows["size"].to_numpy()}
        | columns
    )
    matrix = xgb.DMatrix(frame, rows["late"].to_numpy(), enable_categorical=True)
    booster = xgb.train({"objective": "binary:logistic", "seed": 1, "max_depth": 4}, matrix, 6)
    return booster if cuts_names() else cut_names(booster)


def cuts_names() -> bool:
    """Whether the installed XGBoost cuts names, as 3.1 to 3.3 do."""
    return tuple(map(int, xgb.__version__.split(".")[:2])) < (3, 4)


def cut_names(booster: xgb.Booster) -> xgb.Booster:
    """Store the names as XGBoost 3.2.0 does."""
    model = json.loads(booster.save_raw("json"))
    for encoder in model["learner"]["gradient_booster"]["model"]["cats"]["enc"]:
        if "offsets" not in encoder:
            continue
        text = bytes(byte % 256 for byte in encoder["values"])
        ends = encoder["offsets"]
        stored = cut([text[a:b].decode() for a, b in pairwise(ends)])
        encoder["offsets"] = [sum(stored.lengths[:at]) for at in range(len(ends))]
        encoder["values"] = [byte - 256 if byte > 127 else byte for byte in stored.content]
    model["version"] = [3, 2, 0]
    return xgb.Booster(model_file=bytearray(json.dumps(model).encode()))


def fit_arrow(names: Sequence[str]) -> xgb.Booster:
    rows = rows_of(names, encoded=True)
    matrix = xgb.DMatrix(rows.select(["city", "size"]), rows["late"].to_numpy(), enable_categorical=True)
    return xgb.train({"objective": "binary:logistic", "seed": 1, "max_depth": 4}, matrix, 6)


def ascii_names(names: Sequence[str]) -> list[str]:
    return [f"c{at}" for at in range(len(names))]


def expected(names: Sequence[str]) -> np.ndarray:
    """The scores of the twin with ASCII names, by XGBoost."""
    twin = fit_frame(ascii_names(names))
    frame = pd.DataFrame(
        {
            "city": pd.Categorical.from_codes(codes_of(names), categories=ascii_names(names)),
            "size": rows_of(names)["size"].to_numpy(),
        }
    )
    return np.asarray(twin.predict(xgb.DMatrix(frame, enable_categorical=True)))


def register(registry: Registry, file: Path, rows: pa.Table, **more: object) -> ModelVersion:
    registry.register("late", file, rows, "champion", **more)  # type: ignore[arg-type]  # keywords of each test
    return registry.load(registry.resolve("late@champion"))


@pytest.mark.parametrize("names", [GERMAN, JAPANESE, MIXED, COLLIDING])
def test_a_trained_model_scores_as_its_ascii_twin(registry: Registry, names: tuple[str, ...]) -> None:
    names = tuple(sorted(names))  # `train` sorts them: so the twin has the same codes
    scores = []
    for used in (names, ascii_names(names)):
        train(rows_of(used), "late", rounds=6).register(registry, "late", "champion")
        scores.append(registry.load(registry.resolve("late@champion")).score(rows_of(used))["score"].to_numpy())

    assert registry.manifest("late", "1").features[0].categories == names
    np.testing.assert_array_equal(*scores)


@pytest.mark.parametrize("kind", ["trained.ubj", "trained.json"])
def test_names_that_xgboost_has_cut_are_completed_from_the_reference_rows(
    registry: Registry, save: Save, kind: str
) -> None:
    model = register(registry, save(fit_frame(GERMAN), kind), rows_of(GERMAN))

    assert model.manifest.features[0].categories == GERMAN
    assert model.refused_rows(rows_of(GERMAN)) == {}
    np.testing.assert_array_equal(model.score(rows_of(GERMAN))["score"].to_numpy(), expected(GERMAN).astype(float))


def test_names_of_a_file_that_was_trained_on_arrow_are_whole(registry: Registry, save: Save) -> None:
    model = register(registry, save(fit_arrow(GERMAN)), rows_of(GERMAN))

    assert model.manifest.features[0].categories == GERMAN
    np.testing.assert_array_equal(model.score(rows_of(GERMAN))["score"].to_numpy(), expected(GERMAN).astype(float))


def test_a_cut_file_is_what_xgboost_3_2_saves() -> None:
    booster = fit_frame(GERMAN)

    [(_, stored)] = [pair for pair in booster.get_categories(export_to_arrow=True).to_arrow() if pair[1] is not None]
    assert StoredNames.of_array(stored) == StoredNames((6, 4, 7, 6), "BerlinKölnMünchenZür".encode())


@pytest.mark.skipif(cuts_names(), reason="XGBoost before 3.4 cuts the names")
@pytest.mark.parametrize("names", [GERMAN, JAPANESE, MIXED, COLLIDING])
def test_names_of_a_frame_are_whole_since_xgboost_3_4(
    registry: Registry, save: Save, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.cut_names", lambda booster: booster)

    model = register(registry, save(fit_frame(names)), rows_of(names))

    assert model.manifest.features[0].categories == names
    np.testing.assert_array_equal(model.score(rows_of(names))["score"].to_numpy(), expected(names).astype(float))


@pytest.mark.parametrize("names", [JAPANESE, MIXED, COLLIDING])
@pytest.mark.parametrize("given", ["categories", "dictionary"])
def test_names_come_from_the_caller_where_too_much_of_them_is_lost(
    registry: Registry, save: Save, names: tuple[str, ...], given: str
) -> None:
    file, rows = save(fit_frame(names)), rows_of(names, encoded=given == "dictionary")
    more = {"categories": {"city": names}} if given == "categories" else {}

    model = register(registry, file, rows, **more)

    assert model.manifest.features[0].categories == names
    np.testing.assert_array_equal(model.score(rows)["score"].to_numpy(), expected(names).astype(float))


def test_lost_names_that_cannot_be_completed_are_refused_with_the_way_to_give_them(
    registry: Registry, save: Save
) -> None:
    with pytest.raises(ModelRefused, match=r"may have cut the category names of `city`.*with `categories`"):
        registry.register("late", save(fit_frame(JAPANESE)), rows_of(JAPANESE))
    without_zurich = rows_of(GERMAN).filter(pa.array([c != "Zürich" for c in rows_of(GERMAN)["city"].to_pylist()]))
    with pytest.raises(ModelRefused, match="do not have all of them"):
        registry.register("late", save(fit_frame(GERMAN)), without_zurich)
    with pytest.raises(ModelRefused, match="do not have all of them"):
        registry.register("late", save(fit_frame(GERMAN)), rows_of(ascii_names(GERMAN)))

    assert registry.names() == ()


@pytest.mark.parametrize(
    "wrong", [("Köln", "Berlin", "München", "Zürich"), ("Köl", "nMünch", "enZür", "x"), GERMAN[:3]]
)
def test_names_that_are_not_the_files_are_refused(registry: Registry, save: Save, wrong: tuple[str, ...]) -> None:
    with pytest.raises(ModelRefused, match="are not the file's"):
        registry.register("late", save(fit_frame(GERMAN)), rows_of(GERMAN), categories={"city": wrong})


def test_a_second_feature_with_ascii_names_scores_beside_cut_ones(registry: Registry, save: Save) -> None:
    kinds = np.random.default_rng(8).choice(["a", "b"], ROWS)
    rows = rows_of(GERMAN).append_column("kind", pa.array(kinds))
    booster = fit_frame(GERMAN, kind=pd.Categorical(kinds))

    model = register(registry, save(booster), rows)

    twin = fit_frame(ascii_names(GERMAN), kind=pd.Categorical(kinds))
    frame = pd.DataFrame(
        {
            "city": pd.Categorical.from_codes(codes_of(GERMAN), categories=ascii_names(GERMAN)),
            "size": rows["size"].to_numpy(),
            "kind": pd.Categorical(kinds),
        }
    )
    wanted = twin.predict(xgb.DMatrix(frame, enable_categorical=True)).astype(float)
    np.testing.assert_array_equal(model.score(rows)["score"].to_numpy(), wanted)


def test_a_version_that_was_registered_with_cut_names_is_read_as_before(registry: Registry, save: Save) -> None:
    """It refuses the rows of names that it does not know, as it did, until it is registered again."""
    registry.register("late", save(fit_frame(GERMAN)), rows_of(GERMAN))
    path = registry.folder / "late/1/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["features"][0]["categories"] = ["Berlin", "Köl", "nMünch", "enZür"]
    manifest["golden"] = [row for row in manifest["golden"] if row["inputs"]["city"] in (None, "Berlin")]
    path.write_text(json.dumps(manifest))

    model = registry.load(registry.resolve("late@1"))

    refused = model.refused_rows(rows_of(GERMAN))
    assert {misfits[0] for misfits in refused.values()} == {
        Misfit("city", "unseen category", name) for name in GERMAN[1:]
    }


def test_a_manifest_with_other_names_than_the_file_is_refused(registry: Registry, save: Save) -> None:
    registry.register("late", save(fit_frame(GERMAN)), rows_of(GERMAN))
    path = registry.folder / "late/1/manifest.json"
    path.write_text(path.read_text().replace("Köln", "Ulm?"))

    with pytest.raises(ModelRefused, match="categories of `city` differ"):
        registry.load(registry.resolve("late@1"))


def cut(names: Sequence[str]) -> StoredNames:
    """What XGBoost 3.2.0 stores of a pandas frame."""
    lengths = tuple(len(name) for name in names)
    return StoredNames(lengths, "".join(names).encode()[: sum(lengths)])


@pytest.mark.parametrize(
    ("stored", "known", "names"),
    [
        (cut(GERMAN), GERMAN, GERMAN),
        (cut(("ü",)), {"ü"}, ("ü",)),
        (cut(("ü",)), set(), None),
        (cut(("ü",)), {"ö", "ü"}, None),
        (cut(JAPANESE), JAPANESE, None),
        (StoredNames((6, 5), "BerlinKöln".encode()), {"Berlin"}, None),
        (StoredNames((6, 5), "BerlinKöln".encode()), {"Köln"}, ("Berlin", "Köln")),
        (StoredNames((6, 5), "BerlinKöln".encode()), {"Berlin", "Kölne"}, ("Berlin", "Kölne")),
        (StoredNames((6, 5), "BerlinKöln".encode()), {"Berlin", "Köln", "Kölne"}, None),
        (StoredNames((1, 1), b"ab"), set(), ("a", "b")),
    ],
)
def test_names_are_restored_where_that_is_certain(
    stored: StoredNames, known: set[str], names: tuple[str, ...] | None
) -> None:
    assert stored.restore(known) == names
