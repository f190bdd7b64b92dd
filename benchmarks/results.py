"""Turn measured rounds into tables: medians, ratios, targets, and how to repeat them."""

import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median

from benchmarks.candidate import Measured
from benchmarks.workload import NAMES, Ratio, Workload

RESULTS = Path(__file__).with_name("RESULTS.md")
Rounds = Mapping[str, Sequence[Measured]]
_LIBRARIES = (
    "prefect", "great-expectations", "xgboost", "pandas", "pyarrow", "duckdb", "sqlalchemy", "adbc-driver-postgresql",
)  # fmt: skip
_TIMED = """\
Each candidate runs in a fresh process. Candidates take turns, and the tables show the medians of the rounds. *Seconds*
run from ready (everything imported) to done (rows committed, flow ended). *CPU* is the processor time of the process in
that span. *Process* is the whole process with its start, its imports and its end. *Peak* is the memory of the process.
CPU and peak do not include Postgres and the Prefect server. All flows report to the same local Prefect server. *plain*
is a Prefect flow as people usually write it (`read_sql`, Great Expectations, `DMatrix`, `to_sql`). *floor* reads,
predicts and appends in the quickest known way, one after the other, without checks or orchestration. A ratio below its
target is better."""


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


def ratios_of(workload: Workload, rounds: Rounds) -> dict[str, float]:
    """Return the ratios of the medians by name, without candidates that did not take part."""
    return {ratio.name: round(_ratio(ratio, rounds), 4) for ratio in workload.ratios if _took_part(ratio, rounds)}


def _compared(workload: Workload, rounds: Rounds, rows: int) -> list[str]:
    lines = []
    for ratio in workload.ratios:
        if _took_part(ratio, rounds):
            is_, target = _ratio(ratio, rounds), ratio.target
            lines.append(_row(ratio.name, f"{is_:.3g}", f"{target:.3g}" if target else "", is_, target))
    for limit in workload.limits:
        is_ = middle(rounds[limit.of], limit.figure)
        sign = -1 if limit.at_least else 1  # makes less better
        bound = limit.at_least or limit.at_most
        lines.append(
            _row(f"{limit.of}, {limit.figure}", *(f"{v or 0:,.0f} {limit.unit}" for v in (is_, bound)), sign * is_,
                 None if bound is None else sign * bound)
        )  # fmt: skip
    beyond = workload.beyond
    if beyond is not None:
        units = rows / beyond.rows
        took = [1000 * middle(rounds[name], "seconds") / units for name in (beyond.of, beyond.to)]
        more = took[0] - took[1]
        name = f"{beyond.of} beyond {beyond.to}, for {beyond.rows:,} rows"
        lines.append(_row(name, f"{more:.0f} ms", f"{beyond.at_most_ms:.0f} ms", more, beyond.at_most_ms))
    return lines


def _row(name: str, shown: str, target: str, is_: float, at_most: float | None) -> str:
    kept = "" if at_most is None else "kept" if is_ <= at_most else "**missed**"
    return f"| {name} | {shown} | {target} | {kept} |"


def _took_part(ratio: Ratio, rounds: Rounds) -> bool:
    return ratio.of in rounds and ratio.to in rounds


def _ratio(ratio: Ratio, rounds: Rounds) -> float:
    return middle(rounds[ratio.of], ratio.figure) / middle(rounds[ratio.to], ratio.figure)


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
