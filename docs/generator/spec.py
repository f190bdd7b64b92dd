"""The spec reference, from the JSON Schema of a pipeline file."""

from collections.abc import Iterator
from dataclasses import dataclass
from textwrap import indent
from typing import Any

import yaml

from docs.generator.judges import render_judges
from penstock.spec.expectation_arguments import ARGUMENTS, REFUSED
from penstock.spec.expectation_types import AGGREGATE_TYPES, ROW_COUNT_TYPES, ROW_TYPES, SCHEMA_TYPES
from penstock.spec.json_schema import json_schema

SECTIONS = {
    "Pipeline": "Top-level keys",
    "IntervalSpec": "interval keys",
    "Schedule": "schedule keys",
    "Notify": "notify keys",
    "SqlSource": "SQL source",
    "LogSource": "log source",
    "RegexFormat": "log format",
    "JsonTime": "log time",
    "LogGroup": "log group",
    "FilesSource": "files source",
    "DeltaSource": "Delta source",
    "IcebergSource": "Iceberg source",
    "DeclaredType": "file column",
    "CsvDialect": "CSV dialect",
    "JsonDialect": "JSON dialect",
    "DocumentOptions": "documents",
    "PathTime": "document time",
    "Expectation": "expectation",
    "ScoreStep": "model step",
    "Challenger": "challenger",
    "Destination": "destination keys",
    "Reasons": "reasons keys",
    "ReasonsBudget": "reasons budget keys",
    "Drift": "drift keys",
    "Distance": "drift distance",
    "HttpDelivery": "delivery by HTTP",
    "FileDelivery": "delivery to files",
    "DeltaDelivery": "delivery to a Delta table",
    "MergeDelivery": "delivery into a table",
    "Labels": "labels keys",
    "Limit": "limit of a metric",
    "Promotion": "promotion keys",
    "Requirements": "promotion requirements",
    "NotWorse": "limit of a difference",
    "AtMost": "limit of a share",
    "Serve": "serve keys",
    "ServeBatch": "serve batch keys",
    "ServeLimit": "serve limit keys",
    "Retention": "retention keys",
    "Budget": "budget keys",
}
"""Title of each section by its name in the schema, in the order of the page."""

_HEAD = """# Spec reference

A pipeline is one YAML file. This page lists every key of it, with its type, its default and an example.
`penstock check PIPELINE` finds mistakes before a run does. Editors complete and check a file with the JSON Schema that
`penstock schema` prints.

A duration is a number and a unit: `15m`, `1h`, `7d` or `2w`. Column names are spelled as in the source.
"""
_DURATION = r"^\d+\s*[mhdw]$"
_NAMES = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
_TYPES = """## Suites of Great Expectations

A stage may read its expectations from a suite that Great Expectations 1.x wrote:

```yaml
expectations:
  payments: {{suite: suites/payments.json}}
```

The path starts at the folder of the spec, and the suite is deployed with it. The content belongs to the spec: a suite
with another expectation, argument or severity is another spec. Its notes, ids and `meta` change nothing. `critical`,
`warning` and `info` mean what they mean here. A `warning` that cannot quarantine rows, because the expectation judges
the whole interval or has `mostly`, becomes `info`. `penstock check` says which expectations are judged by row and which
in the audit, and what was changed or left out (`result_format`, `catch_exceptions`, `batch_id`).

A suite is refused, with every reason at once, if it has an expectation that Penstock cannot judge
(`expect_column_values_to_be_of_type`, your own classes), a field that would change its verdict (`row_condition`,
`windows`, `$PARAMETER`), or the format of Great Expectations 0.x.

## Expectation types

A *row* expectation judges each row alone, so it may put rows into quarantine (`severity: warning`). All others judge
the whole interval in the audit. The documentation of Great Expectations describes the arguments. Each type has the
arguments that are listed here; those in brackets are optional. Any other is refused, and so is a value of another kind:
`strict_min: "no"`, `mostly: 95`, or a bound that is text but not a time.

Fields of Great Expectations that a spec cannot use are refused too:
{refused}.
To judge only some rows, choose them in the source's `query:` or in the features. Write notes as YAML comments.
"""

_JUDGES = """
## Who judges a row expectation

DuckDB judges a row expectation where it finds exactly what Great Expectations finds, which is tested for each type of
column. Great Expectations judges the others. `penstock check` says which are which.

Expectations about the whole interval: Penstock compares the row count and the columns. It takes the minimum, maximum,
mean, median, sum and standard deviation of numbers from pandas, as Great Expectations does, with the same result to the
bit. Great Expectations judges the others. It is not imported if nothing is left for it.

The types of columns are those of rows as Penstock reads them (see [Values](values.md)). Columns of one expectation must
have the same type: integers, text, or floats of any width, or the same decimal or time type. These stay with Great
Expectations:

- a value or bound of another type than the column, or text with a NUL character;
- a pattern with a flag, `\\w`, `\\b`, look-around, a back-reference, a `$` before its end, or very large repeats;
- a sum of columns with 64 bits, whose float64 sums can lose a digit;
- pairs of decimals with more than 15 digits.
"""


class _ExampleDumper(yaml.SafeDumper):
    """Write times without quotes, as a spec does."""


_ExampleDumper.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeDumper.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True)
class Key:
    """One key of a section, as the page shows it."""

    section: str
    name: str
    schema: dict[str, Any]
    is_required: bool

    @property
    def examples(self) -> list[Any]:
        return list(self.schema.get("examples", ()))


def walk_keys() -> Iterator[Key]:
    """Yield every key of every section.

    Raises:
        KeyError: the schema has an object that has no section.
    """
    schema = json_schema()
    objects = {"Pipeline": schema} | {n: d for n, d in schema["$defs"].items() if "properties" in d}
    for name in sorted(objects, key=list(SECTIONS).index):
        for key, described in objects[name]["properties"].items():
            yield Key(name, key, described, key in objects[name].get("required", ()))


def render_spec() -> str:
    """Return the page."""
    schema = json_schema()
    summaries = {name: part.get("description", "") for name, part in schema["$defs"].items()}
    summaries["Pipeline"] = schema["description"]
    parts, section = [_HEAD], ""
    for key in walk_keys():
        if key.section != section:
            section = key.section
            parts.append(
                f"## {SECTIONS[section][:1].upper()}{SECTIONS[section][1:]}\n\n{_joined(summaries[section])}\n"
            )
        parts.append(_render_key(key))
    refused = ", ".join(f"`{name}`" for name in sorted(REFUSED))
    return "\n".join([*parts, _TYPES.format(refused=refused), *_render_types(), _JUDGES, *render_judges(), ""])


def _render_key(key: Key) -> str:
    facts = [_describe_type(key.schema, key.name if key.section == "Expectation" else ""), *_limits(key.schema)]
    facts.append("required" if key.is_required else _describe_default(key.schema.get("default")))
    examples = "\n".join(write_example(key.name, example) for example in key.examples)
    return (
        f"### `{key.name}`\n\n*{'; '.join(filter(None, facts))}*\n\n{_joined(key.schema['description'])}\n\n"
        f"```yaml\n{examples}```\n"
    )


def _describe_default(value: Any) -> str:
    if value in (None, "", [], {}) or isinstance(value, dict):
        return "optional"
    return f"default `{_flow(value)}`"


def _describe_type(schema: dict[str, Any], name: str = "") -> str:
    """Say in words what a part of the schema allows."""
    if name == "type":
        return "one of the [expectation types](#expectation-types)"
    if "$ref" in schema:
        return _describe_reference(schema["$ref"].rsplit("/", 1)[1])
    if "anyOf" in schema or "oneOf" in schema:
        options = [o for o in (*schema.get("anyOf", ()), *schema.get("oneOf", ())) if o.get("type") != "null"]
        return " or ".join(dict.fromkeys(_describe_type(option) for option in options))
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return "one of " + ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_describe_type(schema['items'])}"
    if "properties" in schema:
        return f"`{{{', '.join(f'{name}: …' for name in schema['properties'])}}}`"
    if schema.get("type") == "object":
        values = schema.get("additionalProperties") or next(iter(schema.get("patternProperties", {}).values()))
        return f"mapping of names to {_describe_type(values)}"
    if schema.get("pattern") == _DURATION:
        return "duration"
    return "time" if schema.get("format") == "date-time" else _NAMES[schema["type"]]


def _describe_reference(name: str) -> str:
    if name == "ModelRef":
        return "model as name@alias or name@version"
    return f"[{SECTIONS[name]}](#{SECTIONS[name].lower().replace(' ', '-')})"


def _limits(schema: dict[str, Any]) -> list[str]:
    """Say which values of the type are allowed."""
    options = [o for o in schema.get("anyOf", [schema]) if o.get("type") != "null"]
    if len(options) != 1:
        return []
    only = options[0]
    limits = [
        f"at least {only['minimum']:,}" if "minimum" in only else "",
        f"more than {only['exclusiveMinimum']:,}" if "exclusiveMinimum" in only else "",
        f"at most {only['maximum']:,}" if "maximum" in only else "",
        f"at most {only['maxLength']:,} characters" if "maxLength" in only else "",
        f"at most {only['maxItems']:,} entries" if "maxItems" in only else "",
        f"matches `{only['pattern']}`" if "pattern" in only and only["pattern"] != _DURATION else "",
    ]
    return [limit for limit in limits if limit]


def _render_types() -> list[str]:
    kinds = (
        ("Row", ROW_TYPES),
        ("Aggregate", AGGREGATE_TYPES),
        ("Row count", ROW_COUNT_TYPES),
        ("Schema", SCHEMA_TYPES),
    )
    return ["\n".join([f"**{title}**\n", *map(_render_type, sorted(names)), ""]) for title, names in kinds]


def _render_type(name: str) -> str:
    arguments = ARGUMENTS[name].items()
    required = ", ".join(f"`{argument}`" for argument, rule in arguments if rule.required)
    optional = ", ".join(f"`{argument}`" for argument, rule in arguments if not rule.required)
    return f"- `{name}`: {' '.join(filter(None, (required, f'[{optional}]' if optional else '')))}"


def write_example(name: str, value: Any) -> str:
    """Write a key and its value as YAML: mappings in blocks, everything else on one line."""
    name = '"*"' if name == "*" else name  # without quotation marks it would begin an alias
    if isinstance(value, dict):
        return f"{name}:\n" + indent("".join(write_example(key, part) for key, part in value.items()), "  ")
    if isinstance(value, list) and any(isinstance(part, dict) for part in value):
        return f"{name}:\n" + "".join(f"  - {_flow(part)}\n" for part in value)
    return f"{name}: {_flow(value)}\n"


def _flow(value: Any) -> str:
    text = yaml.dump(value, Dumper=_ExampleDumper, default_flow_style=True, sort_keys=False, width=10_000)
    return str(text).removesuffix("...\n").strip()


def _joined(text: str) -> str:
    return " ".join(text.split())
