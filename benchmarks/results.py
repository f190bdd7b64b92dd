"""From rounds to a table: medians, ratios, and what is needed to repeat them."""

import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median

from benchmarks.candidate import Measured

RESULTS = Path(__file__).with_name("RESULTS.md")
_LIBRARIES = ("prefect", "great-expectations", "xgboost", "pandas", "pyarrow", "sqlalchemy", "adbc-driver-postgresql")
_TIMED = """\
Each candidate is a fresh process; candidates take turns, and medians of the rounds are shown. *Seconds* run from ready
(everything imported) to done (rows committed, flow ended), *CPU* is the process's own processor time in that span;
*process* is the whole process with its start, its imports and its end. *Peak* is the process's own memory. Postgres and
the Prefect server are in neither CPU nor peak. Both flows report to the same
local Prefect server. *plain* is a Prefect flow as people write it (`read_sql`, Great Expectations, `DMatrix`,
`to_sql`); *floor* reads, predicts and appends by the quickest known way, with no checks and no orchestration."""


def show_table(rounds: Mapping[str, Sequence[Measured]]) -> str:
    """Return the medians as a Markdown table."""
    seconds = {name: median(m.seconds for m in measured) for name, measured in rounds.items()}
    lines = [
        "| candidate | seconds | all rounds | plain takes | to floor | CPU seconds | process seconds | peak MB |",
        "|---|---:|---|---:|---:|---:|---:|---:|",
    ]
    for name, measured in rounds.items():
        cells = (
            name,
            f"{seconds[name]:.2f}",
            ", ".join(f"{m.seconds:.2f}" for m in measured),
            f"{seconds['plain'] / seconds[name]:.1f} x",
            f"{seconds[name] / seconds['floor']:.2f} x",
            f"{median(m.cpu_seconds for m in measured):.1f}",
            f"{median(m.process_seconds for m in measured):.1f}",
            f"{median(m.peak_mb for m in measured):.0f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def describe_machine() -> str:
    """Return processor, memory and versions in one paragraph."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), {memory:.0f} GB, {platform.system()}, "
        f"Python {platform.python_version()}, {libraries}."
    )


def write_results(sections: Mapping[str, str], arguments: str) -> Path:
    """Write RESULTS.md: the machine, how to repeat, a section a workload; sections that others wrote stay."""
    parts = ["# Results", _TIMED, f"Machine: {describe_machine()}", f'Repeat: `make bench ARGS="{arguments}"`']
    return _write(parts, _read_sections() | dict(sections))


def write_section(title: str, body: str) -> Path:
    """Write one section into RESULTS.md, in the place of the one of that title."""
    head = RESULTS.read_text(encoding="utf-8").split("\n## ")[0].rstrip()
    return _write([head], _read_sections() | {title: body})


def _read_sections() -> dict[str, str]:
    told = RESULTS.read_text(encoding="utf-8").split("\n## ")[1:]
    return {title: body.strip() for title, _, body in (section.partition("\n") for section in told)}


def _write(parts: Sequence[str], sections: Mapping[str, str]) -> Path:
    written = [*parts, *(f"## {title}\n\n{body}" for title, body in sections.items())]
    RESULTS.write_text("\n\n".join(written) + "\n", encoding="utf-8")
    return RESULTS
