"""Numbers agree with their nouns: `1 interval`, `2 intervals`."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.wording import plural

CHECKOUT = Path(__file__).parents[2]
ROOMS = ("penstock", "flows", "tasks", "deployments", "models")
LINKS = ("flows", "tasks", "deployments", "models", "examples")
NOUNS = frozenset({"intervals", "runs", "rows", "lines", "files", "columns", "values", "scores", "partitions", "steps"})
NOUNS |= {"models", "versions", "sources", "pipelines", "deployments", "problems", "attempts", "labels", "objects"}
NOUNS |= {"payments", "days", "migrations"}
QUALIFIERS = frozenset({"more", "other", "later", "missed", "past", "sample", "reference", "published", "unexpected"})
QUALIFIERS |= {"live", "class", "boosting", "pending", "expected"}


@pytest.mark.parametrize(
    ("number", "noun", "many", "text"),
    [
        (0, "interval", "", "0 intervals"),
        (1, "interval", "", "1 interval"),
        (1200, "row", "", "1,200 rows"),
        (1, "entry", "entries", "1 entry"),
        (2, "entry", "entries", "2 entries"),
    ],
)
def test_a_number_has_its_noun_in_the_right_form(number: int, noun: str, many: str, text: str) -> None:
    assert plural(number, noun, many) == text


def counted_nouns(file: Path) -> Iterator[str]:
    """Yield the places of a file where a text counts something and its noun is always a plural."""
    for text in ast.walk(ast.parse(file.read_text())):
        if not isinstance(text, ast.JoinedStr):
            continue
        for value, after in zip(text.values, text.values[1:], strict=False):
            if not isinstance(value, ast.FormattedValue) or not isinstance(after, ast.Constant):
                continue
            if is_count(value) and is_plural(str(after.value)):
                yield f"{file.relative_to(CHECKOUT)}:{text.lineno}: {{{ast.unparse(value.value)}}}{after.value[:30]}"


def is_count(value: ast.FormattedValue) -> bool:
    """Whether a part of a text is a variable number. A constant of the code is never one."""
    expression = value.value
    if isinstance(expression, ast.Name) and expression.id.isupper():
        return False
    called = isinstance(expression, ast.Call) and isinstance(expression.func, ast.Name) and expression.func.id
    grouped = value.format_spec is not None and "," in ast.unparse(value.format_spec)
    return called == "len" or grouped or (called is False and ast.unparse(expression).endswith(("count", "number")))


def is_plural(text: str) -> bool:
    words = text.split()
    if not text.startswith(" ") or not words:
        return False
    position = 1 if words[0] in QUALIFIERS and len(words) > 1 else 0
    return words[position].strip(".,:;)'\"") in NOUNS


def test_no_text_counts_a_noun_that_is_always_a_plural() -> None:
    files = [
        file
        for room in ROOMS
        for file in sorted((CHECKOUT / room).rglob("*.py"))
        if room != "penstock" or file.relative_to(CHECKOUT / room).parts[0] not in LINKS
    ]

    assert [place for file in files for place in counted_nouns(file)] == []
