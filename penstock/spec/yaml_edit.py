"""Add entries to a pipeline file. All other bytes stay: comments, order, quotes and line ends."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from penstock.spec.yaml_file import compose_plain

_MOST_IN_A_LINE = 100
_PLAIN = re.compile(r"[^\W\d][\w.-]*( [\w.-]+)*")
_OTHER_MEANINGS = {"true", "false", "null"}


def add_entries(text: str, path: Sequence[str], entries: Mapping[str, Any]) -> str:
    """Add entries to the mapping at a path, which is made if its parent exists. Entries that are there stay.

    Raises:
        KeyError: the parent of the path does not exist.
    """
    parent, _, mapping = _find(compose_plain(text), path)
    known = {str(key.value) for key, _ in mapping.value} if mapping is not None else set()
    new = {key: value for key, value in entries.items() if key not in known}
    if not new:
        return text
    if mapping is not None and mapping.value:
        return _append(text, mapping, new)
    if mapping is not None:  # `{}`
        start, end = mapping.start_mark.index, mapping.end_mark.index
        return text[:start] + write_flow(new) + text[end:]
    return _append(text, parent, {path[-1]: new})


def replace_entry(text: str, path: Sequence[str], key: str, value: Any) -> str:
    """Replace the entry at a path by one with another key and value. Comments after it stay."""
    _, old, node = _find(compose_plain(text), path, any_node=True)
    assert old is not None
    end = _end(node)
    comments = _comments(text, old.start_mark.index, end)
    tail = "".join(f"  {comment}" for comment in comments)
    return f"{text[: old.start_mark.index]}{_key(key)}: {write_flow(value)}{tail}{text[end:]}"


def remove_entry(text: str, path: Sequence[str]) -> str:
    """Remove the entry at a path. Comments in it and after it stay."""
    parent, old, node = _find(compose_plain(text), path, any_node=True)
    assert old is not None
    start, end = old.start_mark.index, _end(node)
    if parent.flow_style:
        following = re.match(r"\s*,\s*", text[end:])
        if following:
            return text[:start] + text[end + following.end() :]
        return re.sub(r",\s*$", "", text[:start]) + text[end:]
    comments = _comments(text, start, end)
    rest = re.match(r"[ \t]*(#[^\r\n]*)?(\r?\n)?", text[end:])
    assert rest is not None
    comments += [rest[1]] if rest[1] else []
    indent = " " * old.start_mark.column
    line_start = text.rindex("\n", 0, start) + 1 if "\n" in text[:start] else 0
    kept = "".join(f"{indent}{comment}{_newline(text)}" for comment in comments)
    return text[:line_start] + kept + text[end + rest.end() :]


def write_flow(value: Any) -> str:
    """Write a value as YAML in one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)}: {write_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(write_flow, value)) + "]"
    return _scalar(value) if isinstance(value, str) else json.dumps(value)


def _key(text: str) -> str:
    """Return a key. Keys are always text, `null` too."""
    return text if _PLAIN.fullmatch(text) and text.isprintable() else _scalar(text)


def _scalar(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.isprintable() and text.lower() not in _OTHER_MEANINGS:
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _find(
    root: yaml.Node, path: Sequence[str], *, any_node: bool = False
) -> tuple[yaml.MappingNode, yaml.Node | None, Any]:
    """Return the mapping that has the last key of a path, that key and its value."""
    node: yaml.Node = root
    for place, name in enumerate(path):
        if not isinstance(node, yaml.MappingNode):
            raise KeyError(name)
        found = next(((key, value) for key, value in node.value if key.value == name), None)
        if place == len(path) - 1:
            key, value = found or (None, None)
            return node, key, value if any_node or isinstance(value, yaml.MappingNode) else None
        if found is None:
            raise KeyError(name)
        node = found[1]
    raise KeyError("")


def _append(text: str, mapping: yaml.MappingNode, entries: Mapping[str, Any]) -> str:
    last_key, last_value = mapping.value[-1]
    end = _end(last_value)
    if mapping.flow_style:
        added = "".join(f", {_key(key)}: {write_flow(value)}" for key, value in entries.items())
        return text[:end] + added + text[end:]
    newline = _newline(text)
    if isinstance(last_value, yaml.ScalarNode) and last_value.style in ("|", ">"):
        end = len(text[:end].rstrip())
        line_end = end
    else:
        line_end = end + len(re.match(r"[^\r\n]*", text[end:])[0])  # type: ignore[index] # matches always
    lines = "".join(newline + line for line in _write_block(entries, last_key.start_mark.column))
    return text[:line_end] + lines + text[line_end:]


def _write_block(entries: Mapping[str, Any], column: int) -> Iterator[str]:
    indent = " " * column
    for key, value in entries.items():
        line = f"{indent}{_key(key)}: {write_flow(value)}"
        if isinstance(value, Mapping) and value and len(line) > _MOST_IN_A_LINE:
            yield f"{indent}{_key(key)}:"
            yield from _write_block(value, column + 2)
        else:
            yield line


def _end(node: yaml.Node) -> int:
    """Return where a node ends. The mark of a block is at the next key, behind comments."""
    if isinstance(node, yaml.MappingNode) and not node.flow_style and node.value:
        return _end(node.value[-1][1])
    if isinstance(node, yaml.SequenceNode) and not node.flow_style and node.value:
        return _end(node.value[-1])
    return int(node.end_mark.index)


def _comments(text: str, start: int, end: int) -> list[str]:
    """Return the comments in a part of the text."""
    found = (re.search(r"(?:^|\s)(#.*)$", line) for line in text[start:end].splitlines())
    return [match[1] for match in found if match]


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"
