"""W9's floor: `pyarrow.csv` reads the files, without a look at their rows."""

from pathlib import Path

import pyarrow as pa
from pyarrow import csv

from benchmarks.candidates.floor import TABLE, ready, score_rows
from benchmarks.moving import create_table
from benchmarks.place import Place
from benchmarks.workload import FLOOR, work_of

__all__ = ["ready", "run"]


def run(place: Place) -> None:
    work = work_of(place)
    wanted = csv.ConvertOptions(include_columns=[work.key, *work.features])
    files = sorted(Path(place.folder).glob("orders-*.csv"))
    rows = pa.concat_tables(csv.read_csv(file, convert_options=wanted) for file in files)
    create_table(place.warehouses[FLOOR], TABLE, score_rows(place, work, rows), work.key)
