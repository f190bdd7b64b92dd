"""The docs say what is there."""

import inspect
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pytest
import typer.main
import yaml

from docs.generator.errors import read_entry
from docs.generator.pages import render_pages
from docs.generator.session import Session, copy_session
from docs.generator.spec import Key, walk_keys, write_example
from penstock import apply_features, errors
from penstock.errors import SpecError
from penstock.interval import iso
from penstock.spec.yaml_file import parse_pipeline
from tests.shop import SPEC
from tests.steps import STEPS

README = Path("README.md").read_text()


def commands() -> dict[str, click.Command]:
    from penstock.cli.app import app

    root = typer.main.get_command(app)
    found: dict[str, click.Command] = {}
    for name, command in root.commands.items():  # type: ignore[attr-defined] # a group
        inner = getattr(command, "commands", None)
        found |= {f"{name} {sub}": c for sub, c in inner.items()} if inner else {name: command}
    return found


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    return render_pages()


@pytest.mark.parametrize("page", ["docs/spec-reference.md", "docs/commands.md", "docs/errors.md"])
def test_a_generated_page_is_current(page: str, generated: dict[str, str]) -> None:
    assert set(generated) == {"docs/spec-reference.md", "docs/commands.md", "docs/errors.md"}
    assert Path(page).read_text(encoding="utf-8") == generated[page], "run `python -m docs.generator`"


def test_every_command_has_its_section(generated: dict[str, str]) -> None:
    sections = re.findall(r"^## `penstock (.+)`$", generated["docs/commands.md"], re.MULTILINE)

    assert sorted(sections) == sorted(commands())


def test_every_command_line_of_the_session_is_understood() -> None:
    lines = re.findall(r"^\$ penstock (.+)$", README, re.MULTILINE)
    assert lines
    known = commands()
    for line in lines:
        words = shlex.split(line)
        name = next(n for n in (" ".join(words[:2]), words[0]) if n in known)
        arguments = words[len(name.split()) :]
        known[name].make_context(name, arguments, resilient_parsing=True)


def test_the_readmes_session_is_the_tutorials() -> None:
    assert copy_session(Path("docs/tutorial.md").read_text(encoding="utf-8"), README) == README


def test_the_page_on_testing_names_what_ci_runs() -> None:
    ran = re.findall(r"^ *make (?:--\S+ )*([a-z-]+)", Path(".ci/run").read_text(encoding="utf-8"), re.MULTILINE)
    page = Path("docs/testing.md").read_text(encoding="utf-8")

    assert "clients" in ran
    assert [target for target in ran if f"`make {target}" not in page] == []


def test_the_readmes_session_gets_the_dates_of_the_tutorials() -> None:
    tutorial, readme = (
        f"```console\n$ penstock run a --start {day}\n✓ {day}\n```\n" for day in ("2026-02-01", "2026-01-01")
    )

    assert copy_session(tutorial, readme) == tutorial


def test_the_readmes_spec_is_a_pipeline() -> None:
    [block] = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert parse_pipeline(block.encode(), "README.md").name == "card-risk"


def test_the_documents_of_the_guide_are_read_and_joined() -> None:
    [block] = re.findall(r"```yaml\n(.*?)```", Path("docs/documents.md").read_text(encoding="utf-8"), re.DOTALL)
    head = "name: x\ninterval: {column: at, grain: 1d, start: 2026-01-01}\nmodel: m@1\ndestination: {table: t}\n"
    pipeline = parse_pipeline((head + block).encode(), "documents.md")
    rows = {
        "admissions": pa.table({"encounter_id": [17, 18]}),
        "notes": pa.table({"path": ["2026-01-05/17.txt"], "text": ["Fell. Lives alone; no sepsis."]}),
    }
    assert apply_features(pipeline, rows).to_pylist() == [
        {"encounter_id": 17, "note_length": 29, "lives_alone": True, "sepsis": 1},
        {"encounter_id": 18, "note_length": None, "lives_alone": None, "sepsis": None},
    ]


def test_the_steps_of_the_guide_are_those_that_the_tests_score_with() -> None:
    page = Path("docs/several-models.md").read_text(encoding="utf-8")
    [block] = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    shown = parse_pipeline(SPEC.replace("model: card-risk@champion\n", block).encode(), "several-models.md")
    scored = parse_pipeline(STEPS.encode(), "x.yaml")

    assert (shown.steps, shown.decide) == (scored.steps, scored.decide)


def test_the_intervals_of_the_guide_are_those_of_its_pipelines() -> None:
    page = Path("docs/intervals.md").read_text(encoding="utf-8")
    parts = re.findall(r"```yaml\n(.*?)```\n\n((?:\|[^\n]*\n)+)", page, re.DOTALL)
    assert len(parts) == 2
    for block, table in parts:
        shown = SPEC.replace(re.findall(r"^interval: .*\n", SPEC, re.MULTILINE)[0], block)
        spec = parse_pipeline(shown.encode(), "intervals.md").interval
        assert spec is not None
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
        expected = [
            [i.label, iso(i.start), iso(i.end), iso(i.end + spec.delay), f"{(i.end - i.start) / timedelta(hours=1):g}"]
            for i in spec.grid.split(datetime.fromisoformat(rows[-1][2]))
        ]
        assert rows == expected


# --- the spec reference --------------------------------------------------------------------------

KEYS = list(walk_keys())
SQL = {"kind": "sql", "connection": "shop", "table": "orders", "key": ["order_id"]}
BARE: dict[str, Any] = {
    "name": "orders",
    "sources": {"orders": SQL},
    "model": "risk@champion",
    "destination": {"table": "order_scores"},
}
INTERVAL = {"column": "created_at", "grain": "1d", "start": "2026-01-01"}
LOG = {"kind": "log", "path": "logs/app.log", "format": "json"}
FILES = {"kind": "files", "path": "lake/{interval_start:%Y}.csv", "format": "csv", "every": "1d"}
DELTA = {"kind": "delta", "path": "lake/orders", "key": ["order_id"]}
ICEBERG = {"kind": "iceberg", "connection": "catalog", "table": "shop.orders", "key": ["order_id"]}
NOTES = {"kind": "files", "path": "notes/*.txt", "format": "text"}
PAYMENTS = SQL | {"key": ["payment_id"]}
LABELS = {
    "source": PAYMENTS,
    "value": "is_fraud",
    "seen_at": "reported_at",
    "mature": "45d",
    "alert": {"auc": {"below": 0.7}},
}
SCREEN = {"name": "screen", "model": "risk@1"}
NOT_NULL = {"type": "expect_column_values_to_not_be_null", "column": "amount"}
PROMOTING: dict[str, Any] = {
    "sources": {"orders": PAYMENTS},
    "model": "card-risk@champion",
    "challengers": [{"model": "card-risk@challenger"}],
    "labels": LABELS,
    "decide": {"decision": "score > 0.5"},
    "drift": {},
}
"""What a promotion with every requirement needs."""


def place_promotion(part: dict[str, Any]) -> dict[str, Any]:
    return PROMOTING | {"promotion": part}


def _interval_of_start(part: dict[str, Any]) -> dict[str, Any]:
    return {"interval": INTERVAL} if "start" in part else {}


PLACES: dict[str, tuple[dict[str, Any], Callable[[dict[str, Any]], dict[str, Any]]]] = {
    "Pipeline": (BARE, lambda part: part),
    "IntervalSpec": (INTERVAL, lambda part: {"interval": part}),
    "Schedule": (
        {},
        lambda part: {"schedule": {"cron": "0 0 * * *"} | part if {"timezone", "active"} & part.keys() else part},
    ),
    "Notify": ({}, lambda part: {"notify": part, "labels": LABELS, "sources": {"orders": PAYMENTS}}),
    "SqlSource": (SQL, lambda part: {"sources": {"orders": part}}),
    "LogSource": (LOG, lambda part: {"sources": {"orders": part}}),
    "RegexFormat": ({"regex": "(?P<time>.+)"}, lambda part: {"sources": {"orders": LOG | {"format": part}}}),
    "JsonTime": ({"key": "at"}, lambda part: {"sources": {"orders": LOG | {"time": part}}}),
    "LogGroup": ({"key": ["session"]}, lambda part: {"sources": {"orders": LOG | {"group": part}}}),
    "FilesSource": (FILES, lambda part: {"sources": {"orders": part}}),
    "DeltaSource": (DELTA, lambda part: {"sources": {"orders": part}}),
    "IcebergSource": (ICEBERG, lambda part: {"sources": {"orders": part}}),
    "DeclaredType": (
        {"type": "date"},
        lambda part: {"sources": {"orders": FILES | {"columns": {"day": part}}}},
    ),
    "CsvDialect": ({}, lambda part: {"sources": {"orders": FILES | {"csv": part}}}),
    "DocumentOptions": ({}, lambda part: {"sources": {"orders": NOTES | {"documents": part}}}),
    "PathTime": (
        {"path": "(.*)", "format": "%Y-%m-%d"},
        lambda part: {"sources": {"orders": NOTES | {"documents": {"time": part}}}},
    ),
    "JsonDialect": ({}, lambda part: {"sources": {"orders": FILES | {"format": "json", "json": part}}}),
    "Expectation": (NOT_NULL, lambda part: {"expectations": {"orders": [part]}}),
    "Challenger": ({"model": "card-risk@challenger"}, lambda part: {"challengers": [part]}),
    "ScoreStep": (
        SCREEN,
        lambda part: {"models": [SCREEN, part | {"name": "deep"}] if SCREEN.keys() < part.keys() else [part]},
    ),
    "Destination": ({"table": "order_scores"}, lambda part: {"destination": part}),
    "Reasons": ({"when": "score > 0.5"}, lambda part: {"reasons": part, "decide": {"decision": "score > 0.5"}}),
    "ReasonsBudget": ({}, lambda part: {"reasons": {"when": "score > 0.5", "budget": part}}),
    "Drift": ({}, lambda part: {"drift": part}),
    "Distance": ({}, lambda part: {"drift": {"distance": part}}),
    "Retention": ({}, lambda part: {"interval": INTERVAL, "retention": part}),
    "Budget": ({}, lambda part: {"budget": part}),
    "HttpDelivery": (
        {"kind": "http", "name": "crm", "url": "crm"},
        lambda part: {"deliver": [part], "decide": {"decision": "score > 0.5"}} | _interval_of_start(part),
    ),
    "FileDelivery": (
        {"kind": "parquet", "name": "lake", "path": "s3://lake/{run_id}"},
        lambda part: {"deliver": [part], "decide": {"decision": "score > 0.5"}, "interval": INTERVAL},
    ),
    "DeltaDelivery": (
        {"kind": "delta", "name": "lake", "path": "s3://lake/scores"},
        lambda part: {"deliver": [part], "decide": {"decision": "score > 0.5"}} | _interval_of_start(part),
    ),
    "MergeDelivery": (
        {"kind": "merge", "name": "crm", "connection": "crm", "table": "customers"}
        | {"on": ["customer_id"], "set": {"risk": "score"}},
        lambda part: (
            {
                "deliver": [part],
                "decide": {"decision": "score > 0.5"},
                "sources": {"orders": PAYMENTS | {"key": ["customer_id"]}},
            }
            | _interval_of_start(part)
        ),
    ),
    "Labels": (
        LABELS,
        lambda part: {
            "labels": part,
            "sources": {"orders": PAYMENTS},
            "destination": {"table": "order_scores", "keep": ["country"]},
        },
    ),
    "Promotion": ({"require": {}}, place_promotion),
    "Requirements": ({}, lambda part: place_promotion({"require": part})),
    "NotWorse": ({}, lambda part: place_promotion({"require": {"auc": part}})),
    "AtMost": ({}, lambda part: place_promotion({"require": {"flips": part}})),
    "Serve": ({}, lambda part: {"serve": part}),
    "ServeBatch": ({}, lambda part: {"serve": {"batch": part}}),
    "ServeLimit": ({}, lambda part: {"serve": {"limit": part}}),
    "Limit": ({}, lambda part: {"labels": LABELS | {"alert": {"auc": part}}, "sources": {"orders": PAYMENTS}}),
}
"""For each section: the least that it needs, and its place in a pipeline."""
INSTEAD = {"query": "table", "models": "model"}
"""Keys that replace another one."""


def as_pipeline(key: Key, example: Any) -> str:
    """Write the smallest pipeline with an example, as the page shows the example."""
    least, place = PLACES[key.section]
    [value] = yaml.safe_load(write_example(key.name, example)).values()
    shown = {key.name: value}  # PyYAML reads the key `on` as true
    part = {name: value for name, value in least.items() if name != INSTEAD.get(key.name)} | shown
    if key.name == "first_day":
        part |= {"grain": "week", "start": "2026-01-04"}
    if key.name in ("json", "documents"):
        part |= {"format": {"json": "json", "documents": "text"}[key.name]}
    if (key.section, key.name) == ("FilesSource", "connection"):
        part |= {"path": "s3://lake/sales/{interval_start:%Y-%m-%d}.csv"}
    pipeline = BARE | place(part)
    if key.name == "expectations":
        pipeline["sources"] = dict.fromkeys(shown["expectations"], SQL)
    if key.name == "labels" and key.section == "Pipeline":
        pipeline["sources"] = {"orders": PAYMENTS}
    if key.name == "promotion":
        pipeline |= PROMOTING
    if key.section == "Serve" and key.name in ("features", "refresh"):
        pipeline |= {"sources": {**pipeline["sources"], "customers": SQL}, "serve": {"features": "snapshot"} | shown}
    if "models" in pipeline:
        del pipeline["model"]
    return yaml.safe_dump(json.loads(json.dumps(pipeline, default=str)), sort_keys=False)  # a copy has no anchors


@pytest.mark.parametrize("key", KEYS, ids=lambda key: f"{key.section}.{key.name}")
def test_every_key_has_a_description_and_examples_that_are_valid(key: Key) -> None:
    assert key.schema.get("description"), "write a docstring below the field"
    assert key.examples, "give the field `examples=[…]`"
    for example in key.examples:
        parse_pipeline(as_pipeline(key, example).encode(), f"{key.section}.{key.name}")


def test_a_wrong_example_is_noticed() -> None:
    delay = next(key for key in KEYS if key.name == "delay")

    with pytest.raises(SpecError, match="not a duration"):
        parse_pipeline(as_pipeline(delay, "ten minutes").encode(), "x.yaml")


def test_the_schemas_default_durations_are_written_as_in_a_spec() -> None:
    durations = [key.schema["default"] for key in KEYS if isinstance(key.schema.get("default"), str)]

    assert {"0m", "7d"} <= set(durations)
    assert [text for text in durations if re.match(r"P[T\d]", text)] == []


# --- settings, errors, site ----------------------------------------------------------------------


READ_BEFORE = {"PROJECT", "DEBUG"}
"""Variables that are read before the settings are."""


def test_every_setting_is_documented_with_its_default() -> None:
    from penstock.settings import Settings

    page = Path("docs/settings.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `PENSTOCK_(\w+).*` \|.*\| (.*) \|$", page, re.MULTILINE))
    assert {name.upper() for name in Settings.model_fields} == {name.removesuffix("__") for name in rows} - READ_BEFORE
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, str | int | float | Path) and field.default != "":
            default = f"{field.default:g}" if isinstance(field.default, float) else str(field.default)
            assert rows[name.upper()] == f"`{default}`", name


def test_every_error_stands_in_the_tree_and_on_the_page(generated: dict[str, str]) -> None:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.PenstockError)]
    page = generated["docs/errors.md"]

    assert sorted(re.findall(r"^## `(\w+)`$", page, re.MULTILINE)) == sorted(kind.__name__ for kind in kinds)
    for kind in kinds:
        entry = read_entry(kind)
        assert f"{entry.summary}\n\n- **Cause:** {entry.cause}\n- **Remedy:** {entry.remedy}" in page, kind


def test_an_error_without_a_remedy_is_noticed() -> None:
    class Bare(errors.TerminalError):
        """Something failed."""

    with pytest.raises(ValueError, match="the docstring of Bare needs"):
        read_entry(Bare)


def test_the_site_builds_strictly_and_loads_nothing_from_other_hosts(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]

    result = subprocess.run(command, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stderr
    pages = {path.relative_to(tmp_path): path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.html")}
    assert len(pages) > len(list(Path("docs").rglob("*.md")))
    loaded = re.compile(r"""<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)=["']?(?:https?:)?//""")
    assert [path for path, text in pages.items() if loaded.search(text)] == []
    assert [path for path, text in pages.items() if 'class="mermaid"' in text] == []  # Material fetches its renderer


@pytest.mark.parametrize("page", [Path("README.md"), *Path("docs").rglob("*.md"), Path("CONTRIBUTING.md")], ids=str)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_every_module_of_the_kernel_stands_in_the_architecture() -> None:
    text = Path("docs/architecture.md").read_text()
    listed = re.findall(r"^\| `([\w.]+)` \| (.*)$", text.partition("Beside the package")[0], re.MULTILINE)
    rows = dict(listed)
    assert len(rows) == len(listed)
    linked = [path for name in ("flows", "tasks", "models") for path in Path("penstock", name).glob("*.py")]
    for path in (*Path("penstock").rglob("*.py"), *linked):  # rglob does not follow links
        room, name = ".".join(path.parts[1:-1]), path.stem
        if name != "__init__" and not room.startswith("cli"):
            assert f"`{name}`" in (rows[room] if room else text), path


def test_every_test_that_the_docs_name_exists() -> None:
    there = {name for file in Path("tests").rglob("*.py") for name in re.findall(r"def (test_\w+)", file.read_text())}
    named = {page: set(re.findall(r"`(test_\w+)`", page.read_text())) for page in Path("docs").rglob("*.md")}

    assert len(named[Path("docs/guarantees.md")]) > 100
    for page, names in named.items():
        assert sorted(names - there) == [], page


def test_every_cell_of_the_features_of_files_names_a_test() -> None:
    table = Path("docs/sources.md").read_text(encoding="utf-8").partition("| feature | CSV | JSON | Parquet |\n")[2]
    rows = [line.strip("|").split("|") for line in table.partition("\n\n")[0].splitlines()[1:]]

    assert len(rows) > 15
    assert [cell for _, *cells in rows for cell in cells if "`test_" not in cell] == []


def test_every_marker_of_a_tier_is_documented() -> None:
    pytest_options = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    page = Path("docs/testing.md").read_text()
    for marker in pytest_options["markers"]:
        assert f"| `{marker.split(':')[0]}` |" in page, marker


def test_every_fault_of_the_catalogue_has_its_line() -> None:
    lines = re.findall(r"^\| F(\d+) \| [^|]+ \| [^|]{4,} \|$", Path("docs/guarantees.md").read_text(), re.MULTILINE)
    assert [int(number) for number in lines] == list(range(1, 56))


def test_no_two_decisions_have_one_number() -> None:
    numbers = [file.name[:4] for file in Path("docs/adr").glob("*.md")]

    assert sorted(numbers) == sorted(set(numbers))


def test_the_site_leads_to_every_page() -> None:
    navigation = Path("mkdocs.yml").read_text()
    pages = [str(page.relative_to("docs")) for page in Path("docs").rglob("*.md")]

    assert [page for page in pages if f" {page}\n" not in navigation] == []


def test_each_date_of_a_session_is_moved_also_one_before_a_time(tmp_path: Path) -> None:
    page = """
```yaml title="spec.yaml"
start: 2020-01-01T00:00:00Z
end: 2020-01-03
```
"""
    followed = Session(page, tmp_path).follow()

    first = datetime.now(UTC).date() - timedelta(days=3)
    moved = f"start: {first}T00:00:00Z\nend: {first + timedelta(days=2)}\n"
    assert moved in followed
    assert (tmp_path / "spec.yaml").read_text() == moved
