"""The content of `manifest.json`: what a model version takes and returns. Does not import XGBoost."""

from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat, model_validator

from penstock.spec.parts import Part, UtcDatetime

MANIFEST_FILE = "manifest.json"
MODEL_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
VERSION = r"[1-9][0-9]{0,8}"
QUANTILES = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
"""Where `Distribution.quantiles` are taken."""
PREDICTED_CLASS = "predicted_class"
Link = Literal["sigmoid", "exp", "identity", "softmax"]
"""The function that makes outputs of a model's raw margins."""

Scalar = bool | int | FiniteFloat | str | None
Share = Annotated[float, Field(ge=0, le=1)]


class Feature(Part):
    """One input of the model, in the model's own order."""

    name: str = Field(min_length=1)
    dtype: Literal["float", "int", "bool", "category"]
    categories: tuple[str, ...] = ()
    """Every category the model was trained on, in the order of its codes. Integer categories as text."""


class Distribution(Part):
    """Distribution of one feature in the reference rows."""

    null_share: Share
    quantiles: tuple[FiniteFloat, ...] = ()
    """Of a float or int feature, at `QUANTILES`. Empty where every value was NULL."""
    frequencies: dict[str, Share] = Field(default_factory=dict)
    """Of a category or bool feature: share of the non-NULL rows."""
    counts: tuple[int, ...] = ()
    """Rows in each bin, the basis of `drift`: of numbers, the bins that the quantiles give; of categories and bools, in
    their order. Last the rows whose value the model cannot take. Empty in manifests of older versions."""
    nulls: int = Field(default=0, ge=0)
    """Rows that are NULL."""


class GoldenRow(Part):
    """One input row, with its outputs at registration."""

    inputs: dict[str, Scalar]
    outputs: dict[str, FiniteFloat | str]


class Manifest(Part):
    """Inputs and outputs of a version, and what verifies that it is the registered one."""

    name: str = Field(pattern=rf"^{MODEL_NAME}$")
    version: str = Field(pattern=rf"^{VERSION}$")
    file: Literal["model.ubj", "model.json"]
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    features: tuple[Feature, ...] = Field(min_length=1)
    objective: str
    outputs: tuple[str, ...] = Field(min_length=1)
    """`score`; or one `score_<class>` for each class, then `predicted_class`."""
    classes: tuple[str, ...] = ()
    """Labels of a multi-class model, in the order of its outputs."""
    group: tuple[str, ...] = ()
    """Columns that group the rows of a ranking model. Its `score` is comparable only within a group."""
    best_iteration: int | None = Field(default=None, ge=0)
    """Last boosting round that the file says is best. `None` means that it names none."""
    iterations: int | None = Field(default=None, ge=1)
    """Boosting rounds that score, if the registration names them. Otherwise they end with the best one."""
    missing: FiniteFloat | None = None
    """Value of a feature that means missing, beside NULL and NaN."""
    base_margin: tuple[str, ...] = ()
    """Column of each row's base margin. Of a model with several outputs, a column for each, in their order."""
    link: Link | None = None
    """Function that makes the outputs of raw margins. `None` means the objective's own."""
    saved_by: str
    """XGBoost version that wrote the file."""
    trained_from: UtcDatetime | None = None
    trained_until: UtcDatetime | None = None
    metrics: dict[str, FiniteFloat] = Field(default_factory=dict)
    reference: dict[str, Distribution] = Field(default_factory=dict)
    reference_scores: dict[str, Distribution] = Field(default_factory=dict)
    """By numeric output: the distribution of what the version predicts of the reference rows."""
    reference_rows: int | None = Field(default=None, ge=0)
    """Reference rows at registration. `None` in manifests of 0.1."""
    unscorable_rows: int = Field(default=0, ge=0)
    """Reference rows that the model cannot take."""
    verified_rows: int | None = Field(default=None, ge=1)
    """Reference rows that score as the training code said. `None` if its outputs were not given."""
    golden: tuple[GoldenRow, ...] = ()
    created_at: UtcDatetime

    @model_validator(mode="before")
    @classmethod
    def _features_are_named_once(cls, data: Any) -> Any:
        features = data.get("features", ()) if isinstance(data, dict) else ()
        names = [f.name if isinstance(f, Feature) else f.get("name") for f in features]
        twice = sorted({str(n) for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"`{twice[0]}` is listed twice among the features")
        return data

    @property
    def label(self) -> str:
        """Name and version as messages show them: `churn/7`."""
        return f"{self.name}/{self.version}"

    @property
    def feature_names(self) -> tuple[str, ...]:
        return tuple(feature.name for feature in self.features)

    @property
    def input_names(self) -> tuple[str, ...]:
        """The columns that rows need: the features, then the base margin."""
        return (*self.feature_names, *(name for name in self.base_margin if name not in self.feature_names))

    @property
    def rounds(self) -> int:
        """Number of boosting rounds that score. 0 means all."""
        return self.iterations or (0 if self.best_iteration is None else self.best_iteration + 1)

    @property
    def score_columns(self) -> tuple[str, ...]:
        """The numeric outputs."""
        return tuple(output for output in self.outputs if output != PREDICTED_CLASS)
