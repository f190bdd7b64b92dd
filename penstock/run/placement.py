"""Check that the workers of a runner can open a pipeline's databases."""

from collections.abc import Collection

from penstock.database.connections import Connect, Database
from penstock.errors import SettingsError
from penstock.resources.runner import Runner
from penstock.spec.pipeline import Pipeline
from penstock.spec.sources import SqlSource


def check_databases(runner: Runner, pipeline: Pipeline, connect: Connect, elsewhere: Collection[str]) -> None:
    """Refuse a runner whose workers cannot open the pipeline's databases.

    Args:
        elsewhere: the workers' hosts, without this machine.

    Raises:
        SettingsError: a database is a file that only one process, or only this machine, can open.
    """
    sources = {s.connection for s in pipeline.sources.values() if isinstance(s, SqlSource)}
    for name in sorted(sources | {pipeline.destination.connection}):
        database = connect(name)
        if runner.kind != "threads" and shuts_others_out(database):
            raise SettingsError(
                f"connection `{name}` is a DuckDB file, which one process at a time can open, and PENSTOCK_RUNNER is "
                f"{runner}",
                "Set PENSTOCK_RUNNER to threads:n, or move the data to Postgres.",
            )
        if elsewhere and database.sql.is_file:
            raise SettingsError(
                f"connection `{name}` is a file on this machine, and workers of {runner} run on "
                f"{', '.join(sorted(elsewhere)[:3])}",
                "Move the data to Postgres, or set PENSTOCK_RUNNER to threads:n.",
            )


def shuts_others_out(database: Database) -> bool:
    """Whether the database is a file that only one process at a time can open."""
    mode = database.url.query.get("access_mode", "")
    return database.sql.one_process and str(mode).casefold() != "read_only"
