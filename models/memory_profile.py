"""Measure what a pipeline's rows take in memory, by taking the first of them all the way but the last step."""

from dataclasses import dataclass

from penstock.database.connections import Connector
from penstock.errors import MemoryTooSmall
from penstock.models.chain import score_in_steps
from penstock.models.registry import Registry
from penstock.models.scoring import score_features
from penstock.resources.free_memory import release_memory
from penstock.resources.memory import MemoryProfile
from penstock.resources.usage import held_memory, watching_memory
from penstock.run.extract import extract_first
from penstock.run.partition_options import PartitionOptions
from penstock.run.validate import validate_partition
from penstock.run_types import ExtractedRows, Partition, ScoredRows, ScoringRun

_FIRST_ROWS = 100
_WARM_BYTES = 2**18
"""So much of rows, in Arrow's form, has every library loaded and its caches filled."""
_TRIAL_BYTES = 2**23
"""So much is large beside what allocators round up to, and small beside any limit."""
_MOST_GROWTH = 20
"""A row was never seen to take more than so many times its Arrow bytes; a trial must fit into the limit, too."""
_MOST_ROWS = 50_000
_LOAD_COPIES = 2
"""Loading holds the scored rows as typed for the database, and as its driver's buffer."""


@dataclass(frozen=True)
class SampleRun:
    """Takes the first rows of a run's interval to their scores, and loads nothing."""

    run: ScoringRun
    connect: Connector
    registry: Registry
    options: PartitionOptions

    def extract(self, rows: int) -> ExtractedRows:
        return extract_first(self.run, rows, self.connect)

    def score(self, rows: int) -> tuple[ExtractedRows, ScoredRows]:
        extracted = self.extract(rows)
        slice_ = Partition(0, 1, None, None, rows)
        features = validate_partition(self.run, slice_, extracted, self.options)
        if self.run.steps:
            return extracted, score_in_steps(self.run, slice_, features, self.registry, self.options)
        model = self.registry.load(self.run.model)
        return extracted, score_features(self.run, slice_, features, model, self.options)


def measure_footprint(trial: SampleRun, limit: int) -> MemoryProfile:
    """Measure on the first rows of the interval.

    Raises:
        MemoryTooSmall: the process holds more than the limit before it holds any row.
        TerminalError: what any partition would raise as well.
    """
    first = trial.extract(_FIRST_ROWS).primary
    row = max(first.nbytes / max(first.num_rows, 1), 1.0)
    few = _rows_of(_WARM_BYTES, row)
    trial.score(few)
    release_memory()
    base = held_memory()
    if base >= limit:
        raise MemoryTooSmall(trial.run.pipeline.name, limit, base, base, 0, 0)
    fixed = _growth(trial, few)[0] if len(trial.run.pipeline.sources) > 1 else 0
    many = max(_rows_of(min(_TRIAL_BYTES, (limit - base) / _MOST_GROWTH), row), few)
    grown, extracted, scored = _growth(trial, many)
    count = max(extracted.primary.num_rows, 1)
    others = sum(table.nbytes for table in extracted.others.values())
    written = _LOAD_COPIES * scored.table.nbytes / count
    audited = sum(table.nbytes for table in scored.audit.values()) / count
    taken = max((grown - fixed) / count, extracted.primary.nbytes / count)
    return MemoryProfile(base, max(fixed, others), taken + written, audited)


def _growth(trial: SampleRun, rows: int) -> tuple[int, ExtractedRows, ScoredRows]:
    release_memory()
    with watching_memory() as watched:
        extracted, scored = trial.score(rows)
    return watched.growth, extracted, scored


def _rows_of(size: float, row_bytes: float) -> int:
    return max(1, min(int(size / row_bytes), _MOST_ROWS))
