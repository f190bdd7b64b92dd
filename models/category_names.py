"""Category names as a model file stores them, and the whole names where XGBoost has cut them.

XGBoost 3.1 to 3.3 store the names of a pandas frame wrong if one is not ASCII: they count characters instead of bytes.
All names are stored as one text, which is cut to as many bytes as it has characters. The lengths of the names in
characters are right, so only the end of the text is lost. Names of an Arrow table are stored right.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from penstock.errors import ModelRefused
from penstock.models.columns import category_text, is_number, is_text
from penstock.models.manifest import Feature


@dataclass(frozen=True)
class StoredNames:
    """The names of one feature's categories in a file."""

    lengths: tuple[int, ...]
    """Of each name, in bytes or, if they are cut, in characters."""
    content: bytes
    """All names, one after the other."""

    @classmethod
    def of_array(cls, names: "pa.Array[Any]") -> "StoredNames":
        """Take the bytes of an exported text array, which may be no valid text."""
        parts: list[Any] = names.cast(pa.binary()).to_pylist()
        return cls(tuple(len(part) for part in parts), b"".join(parts))

    @property
    def is_ascii(self) -> bool:
        """Whether the names are stored as they are. A name that is cut leaves a byte beyond ASCII."""
        return self.content.isascii()

    @property
    def whole(self) -> tuple[str, ...] | None:
        """The names if the lengths are in bytes. None if one of them is no text."""
        ends = [sum(self.lengths[: at + 1]) for at in range(len(self.lengths))]
        try:
            return tuple(
                self.content[end - length : end].decode() for end, length in zip(ends, self.lengths, strict=True)
            )
        except UnicodeDecodeError:
            return None

    def are(self, names: Sequence[str]) -> bool:
        """Return whether the file stores these names, whole or cut."""
        encoded = "".join(names).encode()
        if self.lengths == tuple(len(name.encode()) for name in names):
            return encoded == self.content
        return self.lengths == tuple(map(len, names)) and encoded[: sum(self.lengths)] == self.content

    def restore(self, known: Collection[str]) -> tuple[str, ...] | None:
        """Return the names, completed with those that are known. None if that is not certain.

        Args:
            known: names that occur in reference rows.
        """
        pieces, whole = list(self._pieces()), self.whole
        completed = _complete(pieces, known, self)
        if self.is_ascii or whole is None:
            return whole or completed
        fit_whole = len(set(whole) & set(known))
        fit_cut = len(set(completed or (piece for piece, length in pieces if len(piece) == length)) & set(known))
        if fit_whole == fit_cut:
            return None
        return whole if fit_whole > fit_cut else completed

    def _pieces(self) -> Iterator[tuple[str, int]]:
        """Yield what is left of each name and how many characters it has, if the names are cut."""
        text, at = self.content.decode(errors="ignore"), 0
        for length in self.lengths:
            yield text[at : at + length], length
            at += length


def _complete(pieces: Sequence[tuple[str, int]], known: Collection[str], stored: StoredNames) -> tuple[str, ...] | None:
    """Return the names if each piece is one name or the beginning of exactly one known name."""
    complete = {piece for piece, length in pieces if len(piece) == length}
    names: list[str] = []
    for piece, length in pieces:
        if len(piece) == length:
            names.append(piece)
            continue
        fitting = [name for name in known if len(name) == length and name.startswith(piece) and name not in complete]
        if len(fitting) != 1:
            return None
        names.append(fitting[0])
    return tuple(names) if len(set(names)) == len(names) and stored.are(names) else None


def find_categories(
    model: str,
    feature: Feature,
    stored: StoredNames | None,
    given: Sequence[str] | None,
    column: "pa.ChunkedArray[Any]",
) -> tuple[str, ...]:
    """Return a feature's categories: from the file, then from the caller, then from a dictionary of reference rows.

    They are never collected from the values: a category without a row would shift the codes of all others. Values
    only complete names that XGBoost has cut.

    Args:
        stored: the names as the file has them, if some are not ASCII.
        given: what the caller gave.
        column: the feature in the reference rows.

    Raises:
        ModelRefused: the file has no names or cut ones, which cannot be completed; or others are given.
    """
    if given is not None and not (stored.are(given) if stored else feature.categories in ((), tuple(given))):
        known = feature.categories or "it has others, or they are in another order"
        raise ModelRefused(model, f"the categories given for `{feature.name}` are not the file's: {known}.")
    if feature.categories:
        return feature.categories
    listed = given or _dictionary_of(column)
    if stored is not None:
        names = tuple(listed) if stored.are(listed) else stored.restore(_known_names(column))
        if names is None:
            raise ModelRefused(
                model,
                f"XGBoost may have cut the category names of `{feature.name}` in the file, because some are not ASCII, "
                "and the reference rows do not have all of them. Give them in the order of their codes with "
                "`categories`.",
            )
        return names
    if not listed:
        raise ModelRefused(
            model,
            f"the file has no categories of `{feature.name}` (saved by an XGBoost before 3.1, or trained on "
            "codes). Give them in the order of their codes with `categories`.",
        )
    return tuple(listed)


def _dictionary_of(column: "pa.ChunkedArray[Any]") -> list[str]:
    """Return the names of a dictionary-encoded text column, in the order of their codes."""
    if not (pa.types.is_dictionary(column.type) and is_text(column.type.value_type)):
        return []
    encoded: Any = column.combine_chunks()
    return list(encoded.dictionary.to_pylist())


def _known_names(column: "pa.ChunkedArray[Any]") -> set[str]:
    """Return the names that occur in a column."""
    values: Any = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
    if not (is_text(values.type) or is_number(values.type)):
        return set()
    names: list[Any] = category_text(pc.unique(values)).drop_null().to_pylist()
    return set(names)
