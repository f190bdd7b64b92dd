"""W1 in Penstock: the `score` flow on a spec, with a ledger that it makes in an empty warehouse."""

import json
import sys
from pathlib import Path

import adbc_driver_postgresql.dbapi  # noqa: F401 # imported late by Penstock; here it is part of getting ready
import xgboost  # noqa: F401 # likewise
import yaml

from benchmarks.candidate import timed
from benchmarks.place import Place
from benchmarks.w1 import work
from flows.score import score
from penstock.quality import load_engine


def write_spec(place: Place) -> Path:
    """Write the pipeline's YAML: one day holds all rows, partitions have their usual size."""
    rows = [{"type": type_, "severity": "warning", **arguments} for type_, arguments in work.ROW_EXPECTATIONS]
    whole = [{"type": type_, **arguments} for type_, arguments in work.WHOLE_EXPECTATIONS]
    spec = {
        "name": "orders",
        "interval": {"column": "created_at", "grain": "1d", "start": work.START.isoformat()},
        "sources": {"orders": {"kind": "sql", "connection": "shop", "table": work.TABLE, "key": ["order_id"]}},
        "expectations": {"orders": rows + whole},
        "model": f"{work.MODEL}@champion",
        "destination": {"connection": "warehouse", "table": work.SCORES},
    }
    file = Path(place.folder) / "orders.yaml"
    file.write_text(yaml.safe_dump(json.loads(json.dumps(spec)), sort_keys=False), encoding="utf-8")
    return file


if __name__ == "__main__":
    place = Place.read(sys.argv[1])
    file = write_spec(place)
    load_engine()
    with timed():
        score(str(file), mode="backfill", start=work.START, end=work.END)
