"""Penstock: the `score` flow on the workload's spec. It creates its ledger in an empty warehouse."""

import json
from importlib import import_module
from pathlib import Path

import yaml

from benchmarks.place import Place
from benchmarks.workload import work_of

SPEC = "pipeline.yaml"
LATE = (
    "penstock.database.timeouts",
    "penstock.run.validate",
    "penstock.models.scoring",
    "penstock.run.audit",
    "penstock.report.card",
)


def ready(place: Place) -> None:
    """Write the spec and do Penstock's late imports, so that they are not timed."""
    write_spec(place, work_of(place).spec)
    import_late()
    import_module("penstock.flows.score")  # Prefect too, as in the plain flow


def import_late() -> None:
    for name in LATE:
        import_module(name)
    import_module("penstock.quality").load_engine()


def run(place: Place) -> None:
    from penstock.flows.score import score

    work = work_of(place)
    score(str(Path(place.folder) / SPEC), mode="backfill", start=work.start, end=work.end)


def write_spec(place: Place, spec: dict[str, object]) -> None:
    text = yaml.safe_dump(json.loads(json.dumps(spec)), sort_keys=False)
    (Path(place.folder) / SPEC).write_text(text, encoding="utf-8")
