"""Read the text of a source's `query:`: its parameters, and where it ends.

Only `:interval_start` and `:interval_end` are parameters. A colon inside a literal, a quoted name or a comment is text,
and so are casts (`::`) and slices in brackets (`[1:n]`). A query is read the same way for all databases, except that
SQLite quotes names in brackets and backticks.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from penstock.errors import nearest

PARAMETERS = ("interval_start", "interval_end")
_QUOTED = re.compile(
    r"""
      (?P<text>
        [eE]'(?:[^'\\]|\\.|'')*'        # Postgres and DuckDB: with backslash escapes
      | '(?:[^']|'')*'
      | "(?:[^"]|"")*"
      | `[^`]*`
      | (?P<tag>\$(?:[^\W\d]\w*)?\$).*?(?P=tag)
      )
    | (?P<comment>--[^\n]*|/\*)
    | (?P<blank>\s+)
    | (?P<cast>::)
    | :(?P<name>[^\W\d]\w*)
    | (?P<word>\w+)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")


@dataclass(frozen=True)
class _Token:
    kind: str
    start: int
    end: int
    name: str = ""
    """Of a parameter."""
    nested: bool = False
    """Whether it stands inside brackets or braces, where a colon may be a slice or the value of a struct."""


def parameters_in(query: str) -> tuple[str, ...]:
    """Return the names of the query's parameters, in their order.

    Raises:
        ValueError: another name is written as a parameter; the message says how to write it.
    """
    for token in _tokens(query, sqlite=False):
        if token.kind == "name" and token.name not in PARAMETERS and not token.nested:
            known = tuple(f":{name}" for name in PARAMETERS)
            raise ValueError(
                f"`:{token.name}` is no parameter.{nearest(f':{token.name}', known)} A query takes `:interval_start` "
                "and `:interval_end`; write any other colon in quotes, as `::`, or with a space after it"
            )
    return tuple(token.name for token in _tokens(query, sqlite=False) if token.name in PARAMETERS)


def bindable(query: str, *, sqlite: bool) -> str:
    """Return the query as SQLAlchemy's `text` takes it: without its end, and with only the parameters to bind.

    A semicolon and comments at the end are left out, because the query becomes a subquery.
    """
    tokens = list(_tokens(query, sqlite=sqlite))
    while tokens and (tokens[-1].kind in ("blank", "comment") or query[tokens[-1].start] == ";"):
        tokens.pop()
    texts = ((query[token.start : token.end], token.name in PARAMETERS) for token in tokens)
    return "".join(text if bound else text.replace(":", r"\:") for text, bound in texts)


def _tokens(query: str, *, sqlite: bool) -> Iterator[_Token]:
    at, open_brackets = 0, 0
    while at < len(query):
        found = _QUOTED.match(query, at)
        if sqlite and query[at] == "[":
            end = query.find("]", at) + 1 or len(query)
            yield _Token("text", at, end)
        elif found is None:
            open_brackets += {"[": 1, "{": 1, "]": -1, "}": -1}.get(query[at], 0)
            end = len(query) if query[at] in "'\"`" else at + 1  # a quote that nothing closes: all is text
            yield _Token("other", at, end)
        elif found["comment"]:
            end = _comment_end(query, at, nests=not sqlite)
            yield _Token("comment", at, end)
        else:
            kind = next(k for k in ("text", "blank", "cast", "name", "word") if found[k] is not None)
            end = found.end()
            glued = kind == "name" and at > 0 and (query[at - 1].isalnum() or query[at - 1] in "_:\\")
            name = found["name"] if kind == "name" and not glued else ""
            yield _Token("word" if glued else kind, at, end, name, open_brackets > 0)
        at = end


def _comment_end(query: str, at: int, *, nests: bool) -> int:
    """Return where a comment ends. Postgres and DuckDB count inner comments, SQLite does not."""
    if query.startswith("--", at):
        return query.find("\n", at) + 1 or len(query)
    depth = 0
    for edge in _COMMENT_EDGE.finditer(query, at):
        depth += 1 if edge[0] == "/*" and (nests or not depth) else -1 if edge[0] == "*/" else 0
        if depth == 0:
            return edge.end()
    return len(query)
