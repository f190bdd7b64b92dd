"""Scores that runs have published, by their keys: the live score, and all that is known of it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from penstock.database.connections import Connector
from penstock.errors import DatabaseLocked, RequestError
from penstock.explain.as_object import explanation_object
from penstock.explain.one_score import Explainer
from penstock.explain.scores import read_key
from penstock.ledger.pointer_moves import is_live
from penstock.models.registry import Registry
from penstock.privacy.masking import make_masking
from penstock.privacy.row_key import read_row_key
from penstock.serving.released import release_files
from penstock.settings import Settings
from penstock.spec.pipeline import Pipeline

_PATIENCE = 2.0
"""Seconds to wait for a DuckDB file that a run has open. Then the answer is that it is busy."""
T = TypeVar("T")


@dataclass(frozen=True)
class Lookups:
    """Reads the scores of the served pipelines. A DuckDB warehouse is opened for each request, and closed again."""

    pipelines: Mapping[str, Pipeline]
    settings: Settings
    connect: Connector
    registry: Registry

    def find_score(self, table: str, key: str) -> dict[str, Any]:
        """Return the live score of a key in a destination table, with its run.

        Raises:
            RequestError: no served pipeline writes the table, or the key has no live score.
            SettingsError: the text is no key of these rows.
            DatabaseUnavailable: the warehouse does not answer, or is busy.
        """
        pipeline = next((each for each in self.pipelines.values() if each.destination.table == table), None)
        if pipeline is None:
            known = ", ".join(f"`{each.destination.table}`" for each in self.pipelines.values())
            raise RequestError(
                "no pipeline that is served here writes it", f"table `{table}`", f"There are: {known}.", 404
            )
        row_key, masking = read_row_key(key, pipeline.key), make_masking(pipeline, self.settings)
        connection = pipeline.destination.connection
        found = self._read(lambda connect: read_key(connect(connection), pipeline, row_key, masking, None))
        if found.shown is None or not is_live(found.shown.run):
            remedy = f"`GET /explain/{pipeline.name}/<key>` says what is known of it."
            raise RequestError("the key has no live score", f"table `{table}`", remedy, 404)
        run = found.shown.run
        return {
            "pipeline": pipeline.name,
            "key": dict(row_key.values),
            "columns": found.shown.columns,
            "run": {
                "run_id": run.run_id,
                "interval": run.interval_key,
                "models": run.models,
                "published_at": run.published_at,
            },
        }

    def explain(self, name: str, key: str) -> dict[str, Any]:
        """Return what is known of a key, as `penstock explain --json` writes it.

        Raises:
            RequestError: the pipeline is not served.
            SettingsError: the text is no key of these rows.
            DatabaseUnavailable: a database does not answer, or is busy.
        """
        pipeline = self.pipelines.get(name)
        if pipeline is None:
            raise RequestError("it is not served here", f"pipeline `{name}`", "Name one that `/ready` lists.", 404)
        row_key = read_row_key(key, pipeline.key)

        def read(connect: Connector) -> dict[str, Any]:
            warehouse = connect(pipeline.destination.connection)
            explainer = Explainer(pipeline, self.settings, warehouse, connect, self.registry)
            return explanation_object(pipeline, explainer.explain(row_key))

        return self._read(read)

    def _read(self, read: Callable[[Connector], T]) -> T:
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                with release_files(self.connect) as connect:
                    return read(connect)
            except DatabaseLocked:
                if time.monotonic() >= end:
                    raise
                time.sleep(0.1)
