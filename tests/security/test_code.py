"""What the code must not do, looked for in the code."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("deployments", "flows", "tasks", "models", "penstock")
RUN_CODE_WHEN_READ = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


def sources() -> Iterator[tuple[Path, ast.Module]]:
    for folder in FOLDERS:
        for file in sorted((ROOT / folder).rglob("*.py")):
            yield file.relative_to(ROOT), ast.parse(file.read_text())


def imported(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


def test_nothing_that_runs_code_when_it_is_read_is_imported() -> None:
    guilty = {str(file): found for file, tree in sources() if (found := imported(tree) & RUN_CODE_WHEN_READ)}

    assert guilty == {}


def test_yaml_is_read_by_the_plain_loader_alone() -> None:
    known = [str(file) for file, tree in sources() if "yaml" in imported(tree)]

    assert known == ["deployments/deploy/prefect_yaml.py", "penstock/spec/yaml_edit.py", "penstock/spec/yaml_file.py"]
    edits = (ROOT / known[1]).read_text()  # it walks through nodes that the plain loader has made
    assert not any(reader in edits for reader in ("Loader", "yaml.load", "yaml.safe_load", "yaml.compose"))
    assert "yaml.load" not in (ROOT / known[0]).read_text()  # it writes
    assert "yaml.safe_load" not in (ROOT / known[0]).read_text()


def test_no_text_becomes_code_or_a_shells_command() -> None:
    guilty = [
        f"{file}:{node.lineno}"
        for file, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and (
            (isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec", "__import__"))
            or any(word.arg == "shell" for word in node.keywords)
        )
    ]

    assert guilty == []


def test_sql_text_is_written_only_where_names_alone_are_put_in() -> None:
    writers = {
        str(file)
        for file, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("exec_driver_sql", "execute", "sql", "text")
        and node.args
        and isinstance(node.args[0], ast.JoinedStr)
    }

    # Each was read: what goes in is quoted by the dialect or by `_quoted`, or is a number of ours; values are bound.
    assert writers <= {
        "deployments/doctor/ledger.py",
        "penstock/api/project.py",  # a select of the Python user's own
        "penstock/database/planned_query.py",  # the text of a relation, under a name of ours
        "penstock/run/decisions.py",  # expressions of the spec, as `features` is a query of the spec
        "penstock/database/dialects/mysql.py",  # the settings of a session, numbers of ours
        "penstock/database/sqlite_reader.py",  # explains a statement of SQLAlchemy's
        "penstock/quality/duckdb_judge.py",  # names and values of a spec, quoted, in a closed DuckDB
        "penstock/run/features.py",
        "penstock/run/history_table.py",
        "penstock/run/reasons_table.py",
        "penstock/run/keys.py",
        "penstock/run/retype.py",
        "penstock/ledger/migrations.py",
        "penstock/ledger/migration_fills.py",
        "penstock/sources/files.py",
        "penstock/sources/parquet.py",
        "penstock/sources/sql.py",  # the source's own query, described
        "penstock/sources/lake/staging.py",
        "penstock/sources/text/guess_types.py",
        "penstock/sources/text/numbers.py",
        "penstock/sources/text/refused_rows.py",
        "penstock/sources/text/staging.py",
        "penstock/upkeep/rename.py",
        "penstock/upkeep/sandboxes.py",
    }
