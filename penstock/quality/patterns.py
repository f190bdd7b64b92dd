"""Translate regular expressions of Python to RE2, which DuckDB uses, where both match the same texts."""

import re
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

from re import _constants as op  # type: ignore[attr-defined]  # isort: skip # its stubs lack it
from re import _parser as parser  # type: ignore[attr-defined]  # isort: skip # its stubs lack it

_LARGEST = 1000
"""RE2 repeats at most so often, and refuses patterns that become too large."""
_SURROGATES = range(0xD800, 0xE000)
_SPACE = r"\x{9}-\x{D}\x{1C}-\x{20}\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000}"
_NEGATED = {op.CATEGORY_NOT_DIGIT: op.CATEGORY_DIGIT, op.CATEGORY_NOT_SPACE: op.CATEGORY_SPACE}


class _Untranslated(Exception):
    """A part of the pattern has no equal in RE2, or none that is proven."""


def translate_regex(pattern: str) -> str | None:
    """Return the pattern for RE2, in ASCII and without quotation marks. None if it must stay with Python.

    It finds a match in the same texts as `re.search`. Literals, classes, groups, alternatives, repeats, `^`, `\\Z`,
    a final `$`, `.`, `\\d` and `\\s` are translated. Flags, `\\w`, `\\b`, look-around and back-references are not.
    """
    try:
        parsed = parser.parse(pattern)
        if parsed.state.flags & ~re.UNICODE:
            return None
        if _size(parsed) > _LARGEST:
            return None
        return _sequence(parsed, last=True)
    except (_Untranslated, re.error, RecursionError, OverflowError):
        return None


def _sequence(nodes: Sequence[tuple[Any, Any]], *, last: bool) -> str:
    """Translate nodes in a row. `last` is true if nothing follows them in the pattern."""
    count = len(nodes)
    return "".join(_node(kind, value, last=last and place == count - 1) for place, (kind, value) in enumerate(nodes))


def _node(kind: Any, value: Any, *, last: bool) -> str:
    if kind is op.LITERAL:
        return _letter(value)
    if kind is op.NOT_LITERAL:
        return f"[^{_letter(value)}]"
    if kind is op.ANY:
        return r"[^\x{A}]"
    if kind is op.IN:
        return _class(value)
    if kind is op.AT:
        return _position(value, last=last)
    if kind is op.BRANCH:
        return f"(?:{'|'.join(_sequence(branch, last=last) for branch in value[1])})"
    if kind is op.SUBPATTERN:
        _number, added, removed, inner = value
        if added or removed:
            raise _Untranslated
        return f"(?:{_sequence(inner, last=last)})"
    if kind in (op.MAX_REPEAT, op.MIN_REPEAT):
        low, high, inner = value
        most = "" if high is op.MAXREPEAT else str(high)
        return f"(?:{_sequence(inner, last=False)}){{{low},{most}}}"
    raise _Untranslated


def _position(value: Any, *, last: bool) -> str:
    if value in (op.AT_BEGINNING, op.AT_BEGINNING_STRING):
        return r"\A"
    if value is op.AT_END_STRING:
        return r"\z"
    if value is op.AT_END and last:  # Python's `$` is also before a final line break
        return r"\x{A}?\z"
    raise _Untranslated


def _class(items: Sequence[tuple[Any, Any]]) -> str:
    negated = items[0][0] is op.NEGATE
    members = items[1:] if negated else items
    if len(members) == 1 and members[0][0] is op.CATEGORY and members[0][1] in _NEGATED and not negated:
        return f"[^{_category(_NEGATED[members[0][1]])}]"
    return f"[{'^' if negated else ''}{''.join(_member(kind, value) for kind, value in members)}]"


def _member(kind: Any, value: Any) -> str:
    if kind is op.LITERAL:
        return _letter(value)
    if kind is op.RANGE:
        return f"{_letter(value[0])}-{_letter(value[1])}"
    if kind is op.CATEGORY:
        return _category(value)
    raise _Untranslated


def _category(value: Any) -> str:
    if value is op.CATEGORY_SPACE:
        return _SPACE
    if value is op.CATEGORY_DIGIT:
        return _digits()
    raise _Untranslated


@cache
def _digits() -> str:
    """Return the digits that this Python knows. RE2 and Python can know different versions of Unicode."""
    runs = re.findall(r"\d+", "".join(map(chr, range(sys.maxunicode + 1))))
    return "".join(f"{_letter(ord(run[0]))}-{_letter(ord(run[-1]))}" for run in runs)


def _letter(code: int) -> str:
    if code in _SURROGATES:
        raise _Untranslated
    return rf"\x{{{code:X}}}"


def _size(nodes: Sequence[tuple[Any, Any]]) -> int:
    """Estimate the size of the compiled pattern."""
    total = 0
    for kind, value in nodes:
        if kind is op.BRANCH:
            total += sum(_size(branch) + 1 for branch in value[1])
        elif kind is op.SUBPATTERN:
            total += _size(value[-1])
        elif kind in (op.MAX_REPEAT, op.MIN_REPEAT):
            low, high, inner = value
            times = max(low, 1) if high is op.MAXREPEAT else max(high, 1)
            total += times * (_size(inner) + 1)
        else:
            total += 1
    return total
