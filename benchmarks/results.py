"""Turn measured rounds into tables: medians, ratios, targets, and how to repeat them."""

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from statistics import median

from benchmarks.runner import Measured
from benchmarks.workload import NAMES, Growth, Workload

RESULTS = Path(__file__).with_name("RESULTS.md")
MILLION = 1_000_000
Rounds = Mapping[str, Sequence[Measured]]
_LIBRARIES = (
    "prefect", "great-expectations", "xgboost", "pandas", "pyarrow", "duckdb", "sqlalchemy", "adbc-driver-postgresql",
)  # fmt: skip
_TIMED = """\
Each candidate runs in a fresh process. Candidates take turns, and the tables show the medians of the rounds. *Seconds*
run from ready (everything imported, clusters and Spark's JVM started) to done (rows committed, flow ended). *CPU* is
the processor time of the process and its children in that span. *Process* is the whole process with its start, its
imports and its end. *Peak* is the memory of the process. If it has children, it is the most that all of them had
together, measured five times a second. CPU and peak do not include Postgres and the Prefect server. All flows report
to the same local Prefect server. A ratio below its target is better.

*plain* is a Prefect flow as people usually write it (`read_sql`, Great Expectations, `DMatrix`, `to_sql`). *floor*
reads, predicts and appends in the quickest known way, one after the other, without checks or orchestration. *dask*,
*dlt*, *pyspark* and *ray-data* do the same work as the documentation of each says, in environments of their own
(`make bench-peers`). They check no rows, keep no ledger, and show rows before all of them are written."""


@dataclass(frozen=True)
class Compared:
    """A figure of one candidate divided by another's. Less is better."""

    name: str
    value: float
    target: float | None


def show_table(workload: Workload, rounds: Rounds, rows: int) -> str:
    """Return the medians and the comparisons as Markdown."""
    lines = [
        "| candidate | seconds | all rounds | CPU seconds | process seconds | peak MB |",
        "|---|---:|---|---:|---:|---:|",
    ]
    for name, measured in rounds.items():
        cells = (
            name,
            f"{middle(measured, 'seconds'):.2f}",
            ", ".join(f"{m.seconds:.2f}" for m in measured),
            f"{middle(measured, 'cpu_seconds'):.1f}",
            f"{middle(measured, 'process_seconds'):.1f}",
            f"{middle(measured, 'peak_mb'):.0f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(
        [*lines, "", "| compared | is | target | |", "|---|---:|---:|---|", *_compared(workload, rounds, rows)]
    )


def middle(measured: Sequence[Measured], figure: str) -> float:
    return median(m.figure(figure) for m in measured)


def quietest(measured: Sequence[Measured], figure: str) -> float:
    """Return the smallest figure: other work on the machine only adds."""
    return min(m.figure(figure) for m in measured)


def ratios_of(
    workload: Workload, rounds: Rounds, rows: int, typical: Callable[[Sequence[Measured], str], float] = quietest
) -> dict[str, float]:
    """Return the ratios by name, and those of processor time, without candidates that did not take part."""
    cpu = tuple(replace(each, figure="cpu_seconds") for each in workload.ratios if each.figure == "seconds")
    both = replace(workload, ratios=workload.ratios + cpu)
    return {each.name: round(each.value, 4) for each in compare(both, rounds, rows, typical)}


def compare(
    workload: Workload, rounds: Rounds, rows: int, typical: Callable[[Sequence[Measured], str], float] = middle
) -> list[Compared]:
    """Compare the candidates that took part."""
    ratios = [
        Compared(each.name, typical(rounds[each.of], each.figure) / typical(rounds[each.to], each.figure), each.target)
        for each in workload.ratios
        if each.of in rounds and each.to in rounds
    ]
    growth = workload.growth
    if growth is None:
        return ratios
    seconds = {name: typical(measured, "seconds") for name, measured in rounds.items()}
    return ratios + compare_growth(growth, seconds, rows, workload.rows_of[growth.of_part])


def compare_growth(growth: Growth, seconds: Mapping[str, float], rows: int, part: float) -> list[Compared]:
    """Compare fixed costs and slopes of straight lines through the times for all rows and for a part of them."""
    further = rows * (1 - part)
    of_each = (seconds[growth.of] - seconds[growth.of_part]) / further
    to_each = (seconds[growth.to] - seconds[growth.to_part]) / further
    fixed = seconds[growth.of_part] - of_each * rows * part
    to_million = seconds[growth.to_part] + to_each * (MILLION - rows * part)
    return [
        Compared(f"fixed cost of {growth.of} / {growth.to} for {MILLION:,} rows", fixed / to_million, growth.fixed),
        Compared(f"each further row, {growth.of} / {growth.to}", of_each / to_each, growth.each),
    ]


def _compared(workload: Workload, rounds: Rounds, rows: int) -> list[str]:
    lines = [
        _row(each.name, f"{each.value:.3g}", f"{each.target:.3g}" if each.target else "", each.value, each.target)
        for each in compare(workload, rounds, rows)
    ]
    for limit in workload.limits:
        is_ = middle(rounds[limit.of], limit.figure) / (rows / limit.per_rows if limit.per_rows else 1)
        sign = -1 if limit.at_least else 1  # makes less better
        bound = limit.at_least or limit.at_most
        shown, target = (f"{_round(value)} {limit.unit}" for value in (is_, bound or 0))
        signed = None if bound is None else sign * bound
        lines.append(_row(f"{limit.of}, {limit.figure}", shown, target, sign * is_, signed))
    beyond = workload.beyond
    if beyond is not None:
        units = rows / beyond.rows
        took = [1000 * middle(rounds[name], "seconds") / units for name in (beyond.of, beyond.to)]
        more = took[0] - took[1]
        name = f"{beyond.of} beyond {beyond.to}, for {beyond.rows:,} rows"
        lines.append(_row(name, f"{more:.0f} ms", f"{beyond.at_most_ms:.0f} ms", more, beyond.at_most_ms))
    return lines


def _round(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2g}"


def _row(name: str, shown: str, target: str, is_: float, at_most: float | None) -> str:
    kept = "" if at_most is None else "kept" if is_ <= at_most else "**missed**"
    return f"| {name} | {shown} | {target} | {kept} |"


def describe_machine() -> str:
    """Return processor, memory and versions in one paragraph."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), {memory:.0f} GB, {platform.system()}, "
        f"Python {platform.python_version()}, {libraries}."
    )


def write_results(sections: Mapping[str, str], arguments: str) -> Path:
    """Write RESULTS.md: the machine, how to repeat, one section per workload. Other sections stay."""
    parts = ["# Results", _TIMED, f"Machine: {describe_machine()}", f"Repeat: `make bench-full`, or `{arguments}`."]
    there = _read_sections()
    names = {title.partition(":")[0] for title in sections}
    others = {title: body for title, body in there.items() if title.partition(":")[0] not in names}
    return _write(parts, dict(sorted({**others, **sections}.items(), key=_place)))


def _place(section: tuple[str, str]) -> str:
    """Sort workloads first, by name. Other sections keep their order."""
    name = section[0].partition(":")[0]
    return name if name in NAMES else "~"


def write_section(title: str, body: str) -> Path:
    """Replace the section with this title in RESULTS.md, or add it."""
    head = RESULTS.read_text(encoding="utf-8").split("\n## ")[0].rstrip()
    return _write([head], _read_sections() | {title: body})


def _read_sections() -> dict[str, str]:
    sections = RESULTS.read_text(encoding="utf-8").split("\n## ")[1:]
    return {title: body.strip() for title, _, body in (section.partition("\n") for section in sections)}


def _write(parts: Sequence[str], sections: Mapping[str, str]) -> Path:
    written = [*parts, *(f"## {title}\n\n{body}" for title, body in sections.items())]
    RESULTS.write_text("\n\n".join(written) + "\n", encoding="utf-8")
    return RESULTS
