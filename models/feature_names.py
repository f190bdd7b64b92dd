"""Names of features that a model file does not have: from a list, a file of names, an fmap, or the reference rows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from penstock.errors import ModelRefused
from penstock.models.manifest import Feature
from penstock.wording import plural

GivenNames = Sequence[str] | Path
"""Names in the order of the training columns, or a file that has them."""

_Dtype = Literal["float", "int", "bool", "category"]
_FMAP_TYPES: dict[str, _Dtype] = {"q": "float", "float": "float", "int": "int", "i": "bool", "c": "category"}
FORBIDDEN = "[]<"
"""Characters that XGBoost does not accept in a name."""


def read_features(model: str, given: GivenNames) -> tuple[Feature, ...]:
    """Return the features that were given. A list and a file of names have no types, so they are floats.

    Raises:
        ModelRefused: the file cannot be read, or a name is empty, there twice or one that XGBoost does not accept.
    """
    features = _read_file(model, Path(given)) if isinstance(given, Path | str) else _as_floats(given)
    check_names(model, [feature.name for feature in features])
    return features


def check_names(model: str, names: Sequence[str]) -> None:
    """Raise `ModelRefused` for names that XGBoost does not accept."""
    bad = [name for name in names if not name or set(name) & set(FORBIDDEN)]
    if bad or len(set(names)) != len(names):
        shown = bad or sorted({name for name in names if names.count(name) > 1})
        raise ModelRefused(
            model,
            f"XGBoost does not accept `[`, `]` or `<` in feature names, an empty name, nor a name twice: {shown}. "
            "Name them without, and give the columns these names in the features query.",
        )


def are_positions(names: Sequence[str] | None) -> bool:
    """Return whether a file has no names, or only `f0`, `f1` and so on, which XGBoost makes of positions."""
    return not names or all(name == f"f{position}" for position, name in enumerate(names))


def name_by_position(model: str, columns: Sequence[str], features: int) -> tuple[Feature, ...]:
    """Take the reference rows' columns as the features of a file without names, if there are as many.

    Raises:
        ModelRefused: there are more columns, or fewer.
    """
    if len(columns) != features:
        raise ModelRefused(
            model,
            f"its file has {plural(features, 'feature')} without names, and the reference rows have "
            f"{plural(len(columns), 'column')} beside the expected outputs. Give the names with `features`, in the "
            "order of the training columns.",
        )
    check_names(model, columns)
    return _as_floats(columns)


def _as_floats(names: Sequence[str]) -> tuple[Feature, ...]:
    return tuple(Feature.model_construct(name=name, dtype="float", categories=()) for name in names)


def _read_file(model: str, path: Path) -> tuple[Feature, ...]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelRefused(model, f"the feature names in {path} cannot be read: {error}.") from None
    while lines and not lines[-1].strip():
        lines.pop()
    if path.suffix.lower() == ".fmap":
        return _read_fmap(model, path, [line for line in lines if line.strip()])
    return _as_floats([line.strip() for line in lines])


def _read_fmap(model: str, path: Path, lines: Sequence[str]) -> tuple[Feature, ...]:
    """Read lines of number, name and type. XGBoost's own reader ends a name at a blank, this one does not."""
    found: dict[int, Feature] = {}
    for number, line in enumerate(lines, 1):
        parts: list[Any] = line.split(maxsplit=1)
        parts[1:] = parts[1].rsplit(maxsplit=1) if len(parts) == 2 else []
        if len(parts) != 3 or not parts[0].isdecimal() or parts[2] not in _FMAP_TYPES or int(parts[0]) in found:
            raise ModelRefused(
                model,
                f"line {number} of {path.name} is not a line of an fmap: {line.strip()[:80]!r}. Write number, name and "
                "type (q, i, int, float or c) of each feature once, as in `0 age q`.",
            )
        found[int(parts[0])] = Feature(name=parts[1], dtype=_FMAP_TYPES[parts[2]])
    if sorted(found) != list(range(len(found))):
        raise ModelRefused(model, f"{path.name} does not number its features 0, 1, 2 and so on.")
    return tuple(found[position] for position in sorted(found))
