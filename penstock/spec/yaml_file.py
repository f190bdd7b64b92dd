"""Read a pipeline from YAML: every problem at once, each with its line, its key and the nearest known key."""

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from penstock.errors import PipelineNotFound, Problem, SpecError, nearest
from penstock.spec.pipeline import FOLDER, Pipeline
from penstock.wording import plural

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
MAX_PARTS = 20_000
"""Values, lists and mappings in one file: a real spec has some hundreds, and each costs a fifth of a millisecond."""
MAX_PROBLEMS = 50
_MOST_CHARACTERS = 200


class _PlainLoader(yaml.SafeLoader):
    """YAML 1.2's core scalars: `no`, `012` and `12:30:45` stay text, and so do dates (the spec types them)."""


_PlainLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
):
    _PlainLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


def find_pipeline_file(pipeline: str, folder: Path) -> Path:
    """Return the file that a user means by a pipeline's name or by a path.

    Raises:
        PipelineNotFound: neither `<folder>/<pipeline>.yaml` nor the path is a file.
    """
    for candidate in (folder / f"{pipeline}.yaml", Path(pipeline)):
        if candidate.is_file():
            return candidate
    known = tuple(sorted(path.stem for path in folder.glob("*.yaml")))
    raise PipelineNotFound(pipeline, str(folder), known)


def load_pipeline(path: Path) -> Pipeline:
    """Read one pipeline file.

    Raises:
        SpecError: with every problem that was found.
    """
    with path.open("rb") as file:
        return parse_pipeline(file.read(MAX_BYTES + 1), str(path))  # read no more of a file that is too large


def parse_pipeline(content: bytes, file: str) -> Pipeline:
    """Read a pipeline from the bytes of a file. Errors name it as `file`, and suites lie beside it."""
    root, data = _read_yaml(content, file)
    try:
        return Pipeline.model_validate(data, context={FOLDER: Path(file).parent})
    except ValidationError as error:
        found = [dict(e) for e in error.errors(include_url=False) if not _is_other_branch(dict(e))]
        described = (_describe(root, e) for e in found[:MAX_PROBLEMS])
        problems = sorted(dict.fromkeys(described), key=lambda problem: problem.line)
        if len(found) > MAX_PROBLEMS:
            problems.append(Problem(0, "", f"and {plural(len(found) - MAX_PROBLEMS, 'more problem')}"))
        raise SpecError(file, tuple(problems)) from None


def _read_yaml(content: bytes, file: str) -> tuple[yaml.Node, Any]:
    if len(content) > MAX_BYTES:
        raise SpecError(file, (Problem(0, "", f"the file is larger than {MAX_BYTES:,} bytes"),))
    try:
        text = content.decode("utf-8")
        loader = _PlainLoader(text)
        _refuse_what_is_not_plain(text, file)
        root = loader.get_single_node()
        if not isinstance(root, yaml.MappingNode):
            raise SpecError(file, (Problem(1, "", "a pipeline is a mapping: `name:`, `sources:`, `model:` …"),))
        duplicates = tuple(_duplicate_keys(root)[:MAX_PROBLEMS])
        if duplicates:
            raise SpecError(file, duplicates)
        return root, _construct(loader, root, file)
    except UnicodeDecodeError as error:
        raise SpecError(file, (Problem(0, "", f"the file is not UTF-8 text ({error.reason})"),)) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read"
        problem = Problem(mark.line + 1 if mark else 0, "", f"this is not YAML: {what}")
        raise SpecError(file, (problem,)) from None


def compose_plain(text: str) -> yaml.Node:
    """Return the nodes of a pipeline file that was read before."""
    root = _PlainLoader(text).get_single_node()
    assert root is not None
    return root


def _refuse_what_is_not_plain(text: str, file: str) -> None:
    """Look at the file's events, one by one, before anything is built of them."""
    depth = parts = 0
    for event in yaml.parse(text, Loader=_PlainLoader):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise SpecError(file, (Problem(line, "", "anchors and aliases (`&`, `*`) are not taken; write it out"),))
        if getattr(event, "tag", None):
            raise SpecError(file, (Problem(line, "", "tags (`!`, `!!`) are not taken; write the plain value"),))
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise SpecError(file, (Problem(line, "", f"nested deeper than {MAX_DEPTH} levels"),))
        parts += isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent)
        if parts > MAX_PARTS:
            raise SpecError(file, (Problem(line, "", f"more than {MAX_PARTS:,} values and keys"),))


def _construct(loader: _PlainLoader, root: yaml.Node, file: str) -> Any:
    _read_keys_as_text(root)
    try:
        return loader.construct_document(root)
    except ValueError:  # Python reads no number of more than 4,300 digits
        raise SpecError(file, (Problem(0, "", "a number is too long to be read"),)) from None


def _read_keys_as_text(node: yaml.Node) -> None:
    """Make keys text, such as `null` of a dialect, or a column `2019`."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                key.tag = "tag:yaml.org,2002:str"
            _read_keys_as_text(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _read_keys_as_text(item)


def _duplicate_keys(node: yaml.Node, path: str = "") -> list[Problem]:
    problems: list[Problem] = []
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            where = f"{path}.{_shortened(name)}".lstrip(".")
            if name in seen:
                problems.append(Problem(key.start_mark.line + 1, where, "this key stands twice"))
            seen.add(name)
            problems += _duplicate_keys(value, where)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            problems += _duplicate_keys(value, f"{path}[{index}]")
    return problems


def _is_other_branch(error: dict[str, Any]) -> bool:
    """Whether the error is of a union's branch that was clearly not meant: a word where a mapping stands, or so."""
    a_mapping = isinstance(error["input"], dict)
    return (error["type"] == "literal_error" and a_mapping) or (error["type"] == "model_type" and not a_mapping)


def _describe(root: yaml.Node, error: dict[str, Any]) -> Problem:
    """Turn one pydantic error into a problem with its line in the file."""
    line, where, parent = _locate(root, error["loc"])
    leaf = str(error["loc"][-1]) if error["loc"] else ""
    if error["type"] == "extra_forbidden":
        known = _known_keys(Pipeline, error["loc"][:-1])
        return Problem(line, where, f"unknown key.{nearest(_shortened(leaf), known)}")
    if error["type"] == "missing":
        return Problem(line, where, f"this key is missing{f' from `{parent}`' if parent else ''}")
    what = _shortened(str(error["msg"]).removeprefix("Value error, "), 20 * _MOST_CHARACTERS)
    return Problem(line, where, what[:1].lower() + what[1:] if not what.startswith("`") else what)


def _shortened(text: str, length: int = _MOST_CHARACTERS) -> str:
    return text if len(text) <= length else f"{text[:length]}…"


def _locate(root: yaml.Node, loc: tuple[int | str, ...]) -> tuple[int, str, str]:
    """Follow an error's path through the nodes. Parts that are no keys (union tags) are skipped."""
    node, line, names = root, root.start_mark.line + 1, []
    for position, part in enumerate(loc):
        child: yaml.Node | None = None
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if str(key.value) == str(part):
                    child, line = value, key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            child = node.value[part]
            line = child.start_mark.line + 1
        if child is not None:
            node = child
            names.append(_shortened(str(part)))
        elif position == len(loc) - 1 and isinstance(node, yaml.MappingNode):
            return line, ".".join([*names, _shortened(str(part))]), ".".join(names)
    return line, ".".join(names), ".".join(names[:-1])


def _known_keys(model: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[str, ...]:
    """Return the allowed keys at a path of the spec, from its JSON Schema."""
    schema = model.model_json_schema(by_alias=True)
    definitions = schema.get("$defs", {})
    node: dict[str, Any] = schema
    for part in loc:
        node = _step(node, part, definitions)
    return tuple(_resolve(node, definitions).get("properties", ()))


def _resolve(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    for option in node.get("anyOf", ()):
        if "$ref" in option:
            return _resolve(option, definitions)
    if "$ref" in node:
        return _resolve(definitions[node["$ref"].rsplit("/", 1)[1]], definitions)
    return node


def _step(node: dict[str, Any], part: int | str, definitions: dict[str, Any]) -> dict[str, Any]:
    node = _resolve(node, definitions)
    mapping = node.get("discriminator", {}).get("mapping", {})
    if part in mapping:
        return {"$ref": mapping[part]}
    if isinstance(part, int):
        return dict(node.get("items", {}))
    others = [*node.get("patternProperties", {}).values(), node.get("additionalProperties")]
    for child in (node.get("properties", {}).get(part), *others):
        if isinstance(child, dict):
            return child
    return node
