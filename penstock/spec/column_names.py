"""Names of columns in the history table and its views: which ones are taken."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

RUN_COLUMNS = ("interval_start", "interval_end", "model_name", "model_version", "model_digest", "scored_at", "run_id")
"""Columns that the views add to the rows."""
STEP_MODELS = "step_models"
"""A view's column for pipelines with several steps: each step's model, version and digest, as JSON."""
RANK = "penstock_rank"
"""A column inside the view of the newest rows."""
SEAL = "penstock_seal"
"""The column of the history table with each row's seal. The views do not show it."""
DELTA_INTERVAL = "penstock_interval"
"""The column of a Delta table by which a delivery finds the rows of an interval."""
OWN_COLUMNS = ("run_id", "partition", SEAL)
"""Columns of the history table that are not the pipeline's."""
_RESERVED = frozenset({*RUN_COLUMNS, STEP_MODELS, "partition"})
_OWN_PREFIX = "penstock_"


@dataclass(frozen=True)
class TakenName:
    """A column that cannot have its name."""

    column: str
    why: str
    remedy: str

    def __str__(self) -> str:
        return f"`{self.column}` {self.why}. {self.remedy}."


def find_taken(columns: Sequence[str], outputs: Collection[str] = ()) -> tuple[TakenName, ...]:
    """Return the columns of a destination that cannot have their name.

    Args:
        columns: Key, outputs, decisions and kept columns.
        outputs: Those of the columns that models give.
    """
    found = []
    for column in dict.fromkeys(columns):
        if why := _why_taken(column, columns):
            from_model = "Rename the class in the training data and register the model again"
            found.append(TakenName(column, why, from_model if column in outputs else "Rename it in the features query"))
    return tuple(found)


def _why_taken(column: str, columns: Sequence[str]) -> str:
    alike = [other for other in columns if other.casefold() == column.casefold()]
    if column.casefold() in _RESERVED:
        return "is a column of the live view itself"
    if column.casefold().startswith(_OWN_PREFIX):
        return f"begins with `{_OWN_PREFIX}`, as Penstock's own columns do"
    if other := next((o for o in alike if o != column), None):
        return f"differs from `{other}` only in case, and a database takes both for one column"
    return "appears twice among the columns of the destination" if len(alike) > 1 else ""
