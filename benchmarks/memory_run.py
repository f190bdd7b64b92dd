"""The run that `benchmarks.memory` follows: one interval in this process. Its last line has its figures."""

import json
import statistics
import sys
import time

from benchmarks.candidates.penstock_flow import import_late, write_spec
from benchmarks.memory import make_spec
from benchmarks.place import Place
from benchmarks.processes import peak_mb
from benchmarks.workload import DAY, START
from penstock.ledger.reader import list_runs, partitions_of
from penstock.tasks.process_resources import connect


def main(file: str, partition_rows: str) -> None:
    place = Place.read(file)
    write_spec(place, make_spec(place, int(partition_rows)))
    import_late()
    from penstock.flows.score import score

    begun, cpu_begun = time.perf_counter(), time.process_time()
    end = START + DAY
    state = score(f"{place.folder}/pipeline.yaml", mode="backfill", start=START.isoformat(), end=end.isoformat(),
                  return_state=True)  # fmt: skip
    if not state.is_completed():
        raise SystemExit(state.message)
    seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu_begun
    first, last = measure_growth()
    figures = {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mb": peak_mb(), "first": first, "last": last}
    print(json.dumps(figures))


def measure_growth() -> tuple[float, float]:
    """Return the median seconds of a partition in the first and in the last tenth of the run."""
    warehouse = connect("warehouse")
    [run] = list_runs(warehouse)
    seconds = [sum(part.seconds.values()) for part in partitions_of(warehouse, run.run_id)]
    tenth = max(1, len(seconds) // 10)
    return statistics.median(seconds[:tenth]), statistics.median(seconds[-tenth:])


if __name__ == "__main__":
    main(*sys.argv[1:])
