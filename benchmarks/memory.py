"""Score ever more rows from Parquet to DuckDB, and show the peak of the process: `python -m benchmarks.memory`.

The peak must depend on `partition_rows`, and not on the number of rows. 100 million rows take a disk of 10 GB and about
four minutes on 2 cores: `python -m benchmarks.memory --rows 100000000`. `docs/scaling.md` has the figures.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import psutil
import pyarrow as pa

from benchmarks.batch import SAMPLE, register_model, spell_expectations
from benchmarks.place import Place
from benchmarks.servers import environment_of
from benchmarks.workload import START
from penstock.deployments.server.local import local_server

FEATURES = tuple(f"f{number:02d}" for number in range(8))
FILE_ROWS = 5_000_000
SAY_SECONDS = 10.0
BUFFERS = "300MB"
"""DuckDB's memory limit: the pages of its tables would fill the machine's memory."""
MB = 2**20


@dataclass(frozen=True)
class Peak:
    """One run in a process of its own."""

    rows: int
    partitions: int
    seconds: float
    cpu_seconds: float
    peak_mb: float
    first: float
    """Median seconds of a partition in the first tenth of the run."""
    last: float
    """The same of the last tenth. More of them means that a partition costs more, the more there were before it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--partition-rows", type=int, default=1_000_000)
    parser.add_argument("--runner", default="threads:2")
    parser.add_argument("--folder", help="where rows and databases are written, and removed at the end")
    asked = parser.parse_args()
    peaks = []
    with (
        TemporaryDirectory(prefix="penstock-memory-", dir=asked.folder) as folder,
        local_server(Path(folder)) as server,
    ):
        for rows in asked.rows:
            warehouse = f"duckdb:///{folder}/{rows}.duckdb?memory_limit={BUFFERS}"
            place = Place(folder, "memory", rows, "", {"penstock": warehouse}, server.api_url)
            peaks.append(measure(place, asked.partition_rows, asked.runner))
            print(f"{peaks[-1]}\n", flush=True)
            for written in (*Path(folder).glob("rows-*.parquet"), *Path(folder).glob(f"{rows}.duckdb*")):
                written.unlink()
    print(
        "| rows | partitions | seconds | CPU seconds a million rows | last partitions / first | peak of the process |"
    )
    print("|---:|---:|---:|---:|---:|---:|")
    for peak in peaks:
        each, growth = peak.cpu_seconds / peak.rows * 1_000_000, peak.last / peak.first
        print(
            f"| {peak.rows:,} | {peak.partitions:,} | {peak.seconds:,.0f} | {each:.1f} | {growth:.2f} | "
            f"{peak.peak_mb:,.0f} MB |"
        )


def measure(place: Place, partition_rows: int, runner: str) -> Peak:
    """Write the rows, score them in a process of its own, and follow its memory."""
    write_rows(place)
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "PENSTOCK_"))}
    environment = inherited | environment_of(place, "penstock") | {"PENSTOCK_RUNNER": runner}
    del environment["PENSTOCK_CONNECTIONS__SHOP"]
    command = [sys.executable, "-m", "benchmarks.memory_run", str(place.write()), str(partition_rows)]
    begun = time.monotonic()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        ended = threading.Event()
        following = threading.Thread(target=_follow, args=(run.pid, ended, begun), daemon=True)
        following.start()
        printed, errors = run.communicate()
        ended.set()
    if run.returncode:
        raise RuntimeError(f"the run of {place.rows:,} rows ended with {run.returncode}:\n{errors[-3000:]}")
    return Peak(place.rows, -(-place.rows // partition_rows), **json.loads(printed.splitlines()[-1]))


def write_rows(place: Place) -> None:
    """Write files of rows that DuckDB makes one by one, and register a model trained on some of them."""
    numbers = ", ".join(f"(hash(range * 8 + {at}) % 2000000) / 1e6 - 1.0 as {name}" for at, name in enumerate(FEATURES))
    select = (
        f"select range + 1 as order_id, timestamptz '{START.isoformat()}' + to_microseconds(range * {86_400_000_000} "
        f"// {place.rows}) as created_at, {numbers} from range"
    )
    with duckdb.connect(config={"memory_limit": "1GB", "threads": 2}) as connection:
        for number, first in enumerate(range(0, place.rows, FILE_ROWS)):
            file = f"{place.folder}/rows-{number:03d}.parquet"
            last = min(first + FILE_ROWS, place.rows)
            connection.execute(f"copy ({select}({first}, {last})) to '{file}' (format parquet)")
            print(f"wrote {last:,} of {place.rows:,} rows", flush=True)
        sample: pa.Table = connection.sql(f"{select}({SAMPLE})").to_arrow_table()
    register_model(place, sample, FEATURES)


def make_spec(place: Place, partition_rows: int) -> dict[str, object]:
    files = f"{place.folder}/rows-*.parquet"
    return {
        "name": "orders",
        "interval": {"column": "created_at", "grain": "1d", "start": START.isoformat()},
        "sources": {"orders": {"kind": "files", "path": files, "format": "parquet", "key": ["order_id"]}},
        "expectations": spell_expectations("orders"),
        "model": "memory@champion",
        "destination": {"connection": "warehouse", "table": "scores"},
        "partition_rows": partition_rows,
    }


def _follow(pid: int, ended: threading.Event, begun: float) -> None:
    """Print the memory of the process now and then."""
    process = psutil.Process(pid)
    while not ended.wait(SAY_SECONDS):
        try:
            resident = process.memory_info().rss / MB
        except psutil.NoSuchProcess:
            return
        print(f"  {time.monotonic() - begun:6.0f} s: {resident:,.0f} MB", flush=True)


if __name__ == "__main__":
    main()
