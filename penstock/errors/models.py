"""Features and models."""

from dataclasses import dataclass

from penstock.errors.base import TerminalError, nearest


@dataclass(eq=False)
class FeaturesError(TerminalError):
    """The features query fails or returns wrong rows or columns.

    Cause: an error in the SQL, a missing key column, or a query that takes too long.
    Remedy: correct `features:` as the message says. `penstock check` runs it on a few rows.
    """

    pipeline: str
    reason: str

    def message(self) -> str:
        return f"the features query of `{self.pipeline}` {self.reason}"


@dataclass(eq=False)
class ExpressionError(TerminalError):
    """A condition or a decision of the spec cannot be evaluated.

    Cause: a `when:` or `decide:` expression fails on a row or returns a wrong type.
    Remedy: correct the expression in the spec.
    """

    pipeline: str
    where: str
    reason: str

    def message(self) -> str:
        return f"{self.where} of `{self.pipeline}` {self.reason}. Correct it in the spec."


class ModelError(TerminalError):
    """A model cannot be found, trusted or used.

    Cause: one of the classes below.
    Remedy: correct the model, the model store or the spec.
    """


@dataclass(eq=False)
class ModelNotFound(ModelError):
    """The model store has no such model, version or alias.

    Cause: a typing error, a model that was never registered, or another model store.
    Remedy: register a version with `penstock models register`, or set the alias with `penstock models promote`.
    """

    ref: str
    store: str
    known: tuple[str, ...]

    def message(self) -> str:
        return (
            f"there is no model `{self.ref}` in {self.store}.{nearest(self.ref, self.known)} "
            "Register one with `penstock models register NAME FILE --reference ROWS`, or promote a version with "
            "`penstock models promote NAME VERSION ALIAS`."
        )


@dataclass(eq=False)
class ModelRefused(ModelError):
    """A model file is not what its manifest says.

    Cause: a wrong digest, a wrong score on the golden rows, or a format or version that is not supported.
    Remedy: register the model again from its original file.
    """

    model: str
    reason: str

    def message(self) -> str:
        return f"model `{self.model}` is refused: {self.reason}"


@dataclass(eq=False)
class ModelMismatch(ModelError):
    """A batch lacks columns that the model needs.

    Cause: the features query and the model do not belong together.
    Remedy: add or correct the columns in the features query, or choose another model.
    """

    model: str
    columns: tuple[str, ...]
    reason: str

    def message(self) -> str:
        names = ", ".join(f"`{c}`" for c in self.columns)
        return f"model `{self.model}` {self.reason}: {names}. Add or correct them in the features query."


@dataclass(eq=False)
class DriftRefused(ModelError):
    """`drift` cannot be judged with this model version.

    Cause: the version was registered without counts of its reference rows, or `drift.watch` names a column that is
        neither a feature nor a score.
    Remedy: register the model file again with `--reference`, or correct the name in the spec.
    """

    model: str
    reason: str
    remedy: str
    known: tuple[str, ...] = ()
    unknown: str = ""

    def message(self) -> str:
        near = nearest(self.unknown, self.known) if self.unknown else ""
        return f"model `{self.model}` {self.reason}.{near} {self.remedy}"
