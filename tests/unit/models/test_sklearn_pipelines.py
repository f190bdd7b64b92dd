"""Pipelines of scikit-learn, translated into a features query and a model, and verified by their own outputs."""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xgboost as xgb

from penstock.errors import ModelMismatch, ModelRefused
from penstock.models.registry import Registry
from penstock.run.features import closed_duckdb

pytest.importorskip("skops", reason="the extra `sklearn` is not installed")

from sklearn.compose import ColumnTransformer, make_column_selector, make_column_transformer
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)
from skops import io as skops_io  # after the check that it is there

from penstock.models.sklearn_pipelines.importing import ImportedPipeline, import_pipeline
from penstock.models.sklearn_pipelines.sql_columns import SqlColumn, any_of, number

COUNT = 400
NUMBERS = ["age", "income", "visits"]


def frame_of(seed: int = 2) -> pd.DataFrame:
    """Rows of every type that a source gives: gaps, whole numbers, text with quotes, booleans."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": rng.normal(40, 12, COUNT),
            "income": rng.lognormal(8, 1, COUNT),
            "visits": rng.integers(-1, 6, COUNT),
            "city": rng.choice(["Köln", "Paris", "O'Hare", "Rome", "Oslo"], COUNT, p=[0.4, 0.3, 0.2, 0.06, 0.04]),
            "grade": rng.integers(1, 4, COUNT),
            "known": rng.random(COUNT) > 0.4,
            "plan": rng.choice(["basic", "plus"], COUNT),
        }
    )
    frame.loc[::9, "age"] = np.nan
    frame["city"] = frame["city"].astype(object)
    return frame


def label_of(frame: pd.DataFrame) -> np.ndarray:
    """A label that depends on every column, so that a wrong feature changes scores."""
    signal = (
        frame["age"].fillna(70) / 20
        + np.log(frame["income"])
        + frame["visits"]
        + frame["grade"]
        + (frame["city"] == "Paris") * 2
        - (frame["city"] == "O'Hare") * 2
        + frame["known"] * 1.5
        + (frame["plan"] == "plus")
    )
    return (signal > signal.median()).astype(int).to_numpy()


Import = Callable[..., ImportedPipeline]


@pytest.fixture
def bring(registry: Registry, tmp_path: Path) -> Import:
    """Fit steps with an XGBoost behind them, save them, and import them with other rows."""

    def import_steps(
        *steps: Any, columns: list[str] | None = None, model: Any = None, rows: pd.DataFrame | None = None,
        train: pd.DataFrame | None = None, as_array: bool = False, **more: Any,
    ) -> ImportedPipeline:  # fmt: skip
        train = frame_of() if train is None else train
        rows = frame_of(5) if rows is None else rows
        estimator = model if model is not None else xgb.XGBClassifier(n_estimators=8, max_depth=4, n_jobs=1)
        fitted = make_pipeline(*steps, estimator)
        chosen = train if columns is None else train[columns]
        fitted.fit(chosen.to_numpy() if as_array else chosen, label_of(train))
        skops_io.dump(fitted, tmp_path / "model.skops")
        given = pa.Table.from_pandas(rows if columns is None else rows[columns], preserve_index=False)
        return import_pipeline(registry, "risk", tmp_path / "model.skops", given, source="people", **more)

    return import_steps


def test_a_whole_pipeline_is_a_query_and_a_model(bring: Import, registry: Registry) -> None:
    numbers = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    prepare = ColumnTransformer(
        [
            ("numbers", numbers, ["age", "income"]),
            ("city", OneHotEncoder(handle_unknown="ignore"), ["city"]),
            ("plan", OrdinalEncoder(), ["plan"]),
            ("rest", "passthrough", ["visits", "known"]),
            ("gone", "drop", ["grade"]),
        ]
    )

    imported = bring(prepare, key=["person_id"], alias="champion")

    assert imported.verified_rows == imported.manifest.verified_rows == COUNT
    assert imported.features_sql.startswith('select\n  "person_id",\n')
    assert imported.features_sql.endswith('as "known"\nfrom "people"\n')
    assert "'O''Hare'" in imported.features_sql
    assert registry.aliases("risk") == {"champion": "1"}


STEPS: dict[str, tuple[list[str], list[Any]]] = {
    "mean": (NUMBERS, [SimpleImputer()]),
    "constant": (NUMBERS, [SimpleImputer(strategy="constant", fill_value=-5)]),
    "sentinel": (["income", "visits"], [SimpleImputer(missing_values=-1, strategy="median", add_indicator=True)]),
    "indicator": (NUMBERS, [FeatureUnion([("x", "passthrough"), ("gaps", MissingIndicator())])]),
    "all gaps": (NUMBERS, [FeatureUnion([("x", "passthrough"), ("gaps", MissingIndicator(features="all"))])]),
    "standard": (NUMBERS, [StandardScaler()]),
    "only mean": (NUMBERS, [StandardScaler(with_std=False)]),
    "only scale": (NUMBERS, [StandardScaler(with_mean=False)]),
    "min max": (NUMBERS, [MinMaxScaler((-1, 2))]),
    "clipped": (NUMBERS, [MinMaxScaler(clip=True)]),
    "max abs": (NUMBERS, [MaxAbsScaler()]),
    "robust": (NUMBERS, [RobustScaler(quantile_range=(10, 90))]),
    "robust, no center": (NUMBERS, [RobustScaler(with_centering=False)]),
    "bins": (["income", "visits"], [KBinsDiscretizer(5, encode="ordinal", quantile_method="averaged_inverted_cdf")]),
    "uniform bins": (["income", "visits"], [KBinsDiscretizer(4, encode="onehot-dense", strategy="uniform")]),
    "sparse bins": (["income", "visits"], [KBinsDiscretizer(4, encode="onehot", strategy="uniform")]),
    "bins of imputed": (["age"], [SimpleImputer(), KBinsDiscretizer(3, encode="ordinal", strategy="uniform")]),
    "one-hot, sparse": (["city", "plan"], [OneHotEncoder()]),
    "one-hot, dense": (["city", "plan"], [OneHotEncoder(sparse_output=False, dtype=np.float32)]),
    "drop first": (["city", "plan"], [OneHotEncoder(drop="first", sparse_output=False)]),
    "drop if binary": (["city", "plan"], [OneHotEncoder(drop="if_binary", sparse_output=False)]),
    "infrequent": (["city"], [OneHotEncoder(min_frequency=0.1, handle_unknown="infrequent_if_exist")]),
    "infrequent, dropped": (["city"], [OneHotEncoder(max_categories=3, drop="first", sparse_output=False)]),
    "integer categories": (["grade"], [OneHotEncoder(sparse_output=False)]),
    "booleans": (["known"], [OneHotEncoder(sparse_output=False)]),
    "ordinal": (["city", "plan", "grade"], [OrdinalEncoder(dtype=np.int32)]),
    "ordinal, infrequent": (["city"], [OrdinalEncoder(min_frequency=0.1)]),
    "ordinal, given order": (["plan"], [OrdinalEncoder(categories=[["plus", "basic", "gone"]])]),
    "function without a function": (NUMBERS, [FunctionTransformer()]),
    "positions": (NUMBERS, [ColumnTransformer([("a", StandardScaler(), [2, 0]), ("b", "passthrough", slice(1, 2))])]),
    "mask": (NUMBERS, [ColumnTransformer([("a", MinMaxScaler(), [True, False, True])], remainder="passthrough")]),
    "remainder step": (NUMBERS, [ColumnTransformer([("a", "drop", ["age"])], remainder=RobustScaler())]),
    "selector": (
        [*NUMBERS, "city"],
        [ColumnTransformer([("n", StandardScaler(), make_column_selector(dtype_include=np.number))])],
    ),
    "weights": (
        NUMBERS,
        [ColumnTransformer([("a", StandardScaler(), NUMBERS)], transformer_weights={"a": 3.0})],
    ),
    "nothing": (NUMBERS, ["passthrough"]),
    "nested": (
        [*NUMBERS, "city"],
        [
            ColumnTransformer(
                [
                    ("deep", make_pipeline(make_pipeline(SimpleImputer(), MinMaxScaler()), StandardScaler()), NUMBERS),
                    ("city", make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()), ["city"]),
                ]
            )
        ],
    ),
    "frames": (
        [*NUMBERS, "city"],
        [
            make_column_transformer(
                (OneHotEncoder(sparse_output=False), ["city"]), remainder="passthrough"
            ).set_output(transform="pandas")
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", STEPS)
def test_each_step_gives_the_features_of_the_pipeline(bring: Import, case: str) -> None:
    columns, steps = STEPS[case]

    imported = bring(*steps, columns=columns)

    assert imported.manifest.verified_rows == COUNT


def test_zeros_of_a_sparse_matrix_are_missing_as_xgboost_takes_them(bring: Import) -> None:
    prepare = ColumnTransformer(
        [("city", OneHotEncoder(), ["city"]), ("visits", "passthrough", ["visits"])], sparse_threshold=1.0
    )

    imported = bring(prepare, columns=["city", "visits"])

    assert 'nullif(cast("visits" as double), 0e0)' in imported.features_sql
    assert {row.inputs["visits"] for row in imported.manifest.golden} & {0.0} == set()


@pytest.mark.parametrize("gap", [np.nan, None])
@pytest.mark.parametrize(
    "encoder",
    [
        OneHotEncoder(sparse_output=False),
        OrdinalEncoder(encoded_missing_value=-7),
        OrdinalEncoder(encoded_missing_value=-7, min_frequency=0.1),
    ],
)
def test_a_gap_that_is_a_category_is_null(bring: Import, gap: Any, encoder: Any) -> None:
    train, rows = frame_of(), frame_of(5)
    for frame in (train, rows):
        frame["city"] = pd.Series([gap if at % 5 == 0 else v for at, v in enumerate(frame["city"])], dtype=object)

    imported = bring(encoder, columns=["city"], train=train, rows=rows)

    assert '"city" is null' in imported.features_sql


def test_pipelines_that_tell_none_from_nan_are_refused(bring: Import) -> None:
    train = frame_of()
    train["city"] = pd.Series([(None, np.nan, v)[at % 3] for at, v in enumerate(train["city"])], dtype=object)

    with pytest.raises(ModelRefused, match="tell None from NaN"):
        bring(OneHotEncoder(), columns=["city"], train=train, rows=frame_of())


def test_a_pipeline_that_was_fitted_on_an_array_takes_columns_by_position(bring: Import) -> None:
    imported = bring(StandardScaler(), columns=NUMBERS, as_array=True)

    assert imported.manifest.feature_names == tuple(NUMBERS)
    with pytest.raises(ModelRefused, match="fitted on 3 columns without names, and the rows have 2"):
        bring(StandardScaler(), columns=NUMBERS, as_array=True, key=["age"])


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("XGBRegressor", {}),
        ("XGBRFClassifier", {}),
        ("XGBClassifier", {"booster": "dart"}),
        ("XGBClassifier", {"missing": -1}),
        ("XGBRegressor", {"objective": "count:poisson"}),
    ],
)
@pytest.mark.filterwarnings("ignore:`XGBRFClassifier` is deprecated:FutureWarning")
def test_every_kind_of_xgboost_may_be_the_last_step(bring: Import, kind: str, arguments: dict[str, Any]) -> None:
    model = getattr(xgb, kind)(n_estimators=10, n_jobs=1, **arguments)

    imported = bring(SimpleImputer(), columns=NUMBERS, model=model)

    assert imported.manifest.outputs == ("score",)
    assert imported.manifest.missing == arguments.get("missing")


def test_several_classes_have_an_output_each(registry: Registry, tmp_path: Path) -> None:
    frame = frame_of()
    fitted = make_pipeline(StandardScaler(), xgb.XGBClassifier(n_estimators=5))
    fitted.fit(frame[NUMBERS], frame["grade"] - 1)
    skops_io.dump(fitted, tmp_path / "m.skops")

    imported = import_pipeline(registry, "g", tmp_path / "m.skops", pa.Table.from_pandas(frame[NUMBERS]), source="s")

    assert imported.manifest.outputs == ("score_0", "score_1", "score_2", "predicted_class")


def test_a_row_that_the_pipeline_refuses_is_one_that_a_run_quarantines(bring: Import, registry: Registry) -> None:
    imported = bring(OneHotEncoder(sparse_output=False), columns=["city"])
    rows = pa.table({"_row_id": [1, 2, 3], "city": ["Paris", "Ulm", None]})

    with closed_duckdb({"people": rows}) as connection:
        features = connection.sql(imported.features_sql).to_arrow_table()

    refused = registry.load(registry.resolve("risk@1")).refused_rows(features)
    assert {row: misfits[0].why for row, misfits in refused.items()} == {1: "not finite", 2: "not finite"}


@pytest.mark.parametrize("handle", ["ignore", "infrequent_if_exist", "warn"])
@pytest.mark.parametrize("drop", [None, "first"])
@pytest.mark.filterwarnings("ignore:Found unknown categories")
def test_unknown_categories_are_as_the_encoder_takes_them(bring: Import, handle: str, drop: str | None) -> None:
    rows = frame_of(5)
    rows.loc[::4, "city"] = "Ulm"
    encoder = OneHotEncoder(handle_unknown=handle, drop=drop, min_frequency=0.1, sparse_output=False)

    assert bring(encoder, columns=["city"], rows=rows).verified_rows == COUNT
    plain = OneHotEncoder(handle_unknown=handle, drop=drop, sparse_output=False)
    assert bring(plain, columns=["city"], rows=rows).verified_rows == COUNT


def test_an_unknown_category_of_an_ordinal_encoder_has_its_value(bring: Import) -> None:
    rows = frame_of(5)
    rows.loc[::4, "city"] = "Ulm"

    imported = bring(
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan), columns=["city"], rows=rows
    )

    assert imported.features_sql.count("else cast(null as double) end") == 1


def test_rows_that_the_pipeline_cannot_score_are_refused_with_its_words(bring: Import) -> None:
    rows = frame_of(5)
    rows.loc[3, "city"] = "Ulm"

    with pytest.raises(ModelRefused, match=r"cannot score the rows: Found unknown categories \['Ulm'\]"):
        bring(OneHotEncoder(), columns=["city"], rows=rows)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (PolynomialFeatures(), r"step `polynomialfeatures` \(PolynomialFeatures\) has no translation into SQL"),
        (FunctionTransformer(np.cbrt), r"`functiontransformer` \(FunctionTransformer\) calls `cbrt`, and Python"),
        (
            ColumnTransformer([("numbers", make_pipeline(SimpleImputer(), PolynomialFeatures()), NUMBERS)]),
            r"step `columntransformer.numbers.polynomialfeatures` \(PolynomialFeatures\)",
        ),
    ],
)
def test_a_step_that_has_no_sql_is_refused_by_name(bring: Import, registry: Registry, step: Any, message: str) -> None:
    with pytest.raises(ModelRefused, match=message):
        bring(step, columns=NUMBERS, train=frame_of().fillna(1))

    assert registry.names() == ()


def test_text_that_reaches_a_scaler_is_refused(registry: Registry, tmp_path: Path) -> None:
    fitted = make_pipeline(StandardScaler(), xgb.XGBClassifier(n_estimators=2))
    fitted.fit(frame_of()[["income"]], label_of(frame_of()))
    skops_io.dump(fitted, tmp_path / "m.skops")
    rows = pa.table({"income": ["1", "2"]})

    with pytest.raises(ModelRefused, match=r"StandardScaler\) needs numbers, and `income` is text"):
        import_pipeline(registry, "risk", tmp_path / "m.skops", rows, source="s")


def test_rows_without_an_input_column_are_refused(bring: Import) -> None:
    rows = frame_of().rename(columns={"income": "pay"})
    with pytest.raises(ModelMismatch, match="income"):
        bring(ColumnTransformer([("a", "passthrough", ["income"])]), rows=rows)


def test_a_feature_that_differs_is_refused_with_its_row(
    bring: Import, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    from penstock.models.sklearn_pipelines import translate

    def wrong(step: Any, columns: list[SqlColumn]) -> list[SqlColumn]:
        right = original(step, columns)
        return [*right[:1], SqlColumn("income", f"case when visits = 3 then 1e0 else {right[1].sql} end"), *right[2:]]

    original = translate._STEPS["StandardScaler"]
    monkeypatch.setitem(translate._STEPS, "StandardScaler", wrong)
    first = int(np.flatnonzero(frame_of(5)["visits"] == 3)[0])

    with pytest.raises(ModelRefused, match=rf"feature `income` of row {first} is 1.0 by SQL and .* by the Pipeline"):
        bring(StandardScaler(), columns=NUMBERS)
    assert registry.names() == ()


def test_a_pickle_is_never_opened(registry: Registry, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path(tmp_path / "sprung").touch, ())

    (tmp_path / "model.skops").write_bytes(pickle.dumps(Trap()))

    with pytest.raises(ModelRefused, match=r"not a skops file\. A pickle is never opened"):
        import_pipeline(registry, "risk", tmp_path / "model.skops", pa.table({}), source="s")
    assert not (tmp_path / "sprung").exists()


class Foreign(StandardScaler):
    """A step whose type is not on the list of trusted types."""


def test_types_that_nobody_named_are_not_loaded(bring: Import) -> None:
    with pytest.raises(ModelRefused, match=r"types that are not loaded: `.*Foreign`"):
        bring(Foreign(), columns=NUMBERS)


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        (xgb.XGBClassifier(n_estimators=1).fit([[1], [2]], [0, 1]), "has a XGBClassifier, not a Pipeline"),
        (make_pipeline(StandardScaler(), LogisticRegression()), "the last step `logisticregression` is a Logistic"),
        (StandardScaler(), "has a StandardScaler, not a Pipeline"),
    ],
)
def test_what_does_not_end_with_xgboost_is_refused(
    registry: Registry, tmp_path: Path, saved: Any, message: str
) -> None:
    skops_io.dump(saved, tmp_path / "m.skops")

    with pytest.raises(ModelRefused, match=message):
        import_pipeline(registry, "risk", tmp_path / "m.skops", pa.table({"a": [1]}), source="s")


def test_a_damaged_file_is_refused(registry: Registry, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.skops", "w") as archive:
        archive.writestr("schema.json", "{")

    with pytest.raises(ModelRefused, match=r"m\.skops cannot be loaded"):
        import_pipeline(registry, "risk", tmp_path / "m.skops", pa.table({"a": [1]}), source="s")


def test_a_booster_that_is_cut_off_never_reaches_xgboost(bring: Import, registry: Registry, tmp_path: Path) -> None:
    bring(StandardScaler(), columns=NUMBERS)
    with zipfile.ZipFile(tmp_path / "model.skops") as whole, zipfile.ZipFile(tmp_path / "cut.skops", "w") as cut:
        for name in whole.namelist():
            content = whole.read(name)
            cut.writestr(name, content[: len(content) // 2] if name.endswith(".bin") else content)

    with pytest.raises(ModelRefused, match=r"cut\.skops is damaged or not a model: cut off"):
        import_pipeline(registry, "other", tmp_path / "cut.skops", pa.table({"age": [1.0]}), source="s")


def test_a_booster_of_a_newer_xgboost_is_refused_before_it_is_read(
    bring: Import, monkeypatch: pytest.MonkeyPatch
) -> None:
    from penstock.models.sklearn_pipelines import importing

    monkeypatch.setattr(importing, "version", lambda _: "3.1.0")

    with pytest.raises(ModelRefused, match=f"saved by XGBoost {xgb.__version__}, and 3.1.0 is installed"):
        bring(StandardScaler(), columns=NUMBERS)


def test_literals_have_all_digits_and_values_their_type() -> None:
    assert [number(v) for v in (0.1, -2, 1e-300, float("nan"))] == [
        "0.1e0", "(-2.0e0)", "1e-300", "cast(null as double)"
    ]  # fmt: skip
    assert (
        any_of(SqlColumn("a", '"a"', "text"), ["x'y", None]) == "(coalesce(\"a\" in ('x''y'), false) or \"a\" is null)"
    )
