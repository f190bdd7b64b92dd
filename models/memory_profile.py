"""Measure the memory that a pipeline's rows take, by scoring the first of them without loading."""

from contextlib import suppress
from dataclasses import dataclass, replace

from penstock.database.connections import Connector
from penstock.errors import MemoryTooSmall
from penstock.models.chain import score_in_steps
from penstock.models.registry import Registry
from penstock.models.scoring import score_features
from penstock.resources.free_memory import release_memory
from penstock.resources.memory import MemoryPlan, MemoryProfile, RequestedLoad, fit_partitions
from penstock.resources.usage import held_memory, watching_memory
from penstock.run.extract import extract_first
from penstock.run.partition_options import PartitionOptions
from penstock.run.validate import validate_partition
from penstock.run_types import ExtractedRows, Partition, ScoredRows, ScoringRun

_FIRST_ROWS = 100
_WARM_BYTES = 2**18
"""Arrow bytes of rows that are enough to load every library and fill its caches."""
_SAMPLE_BYTES = 2**23
"""Arrow bytes of the sample: large beside what allocators round up to, small beside any limit."""
_MOST_GROWTH = 20
"""Most memory that a row was seen to take, in multiples of its Arrow bytes: the sample must fit into the limit."""
_MOST_ROWS = 50_000
_LOAD_COPIES = 2
"""Copies of the scored rows while they load: typed for the database, and in its driver's buffer."""
_REASON_BYTES = 128
"""Arrow bytes of one reason. The sample makes none, because that takes about 600 times as long as to score it."""


_measured: dict[str, MemoryProfile] = {}
"""By spec and models: a process that scores many intervals measures the first one only."""


@dataclass(frozen=True)
class SampleRun:
    """Scores the first rows of a run's interval and loads nothing."""

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
        scored = score_features(self.run, slice_, features, model, self.options)
        for challenger in self.run.challengers:
            with suppress(Exception):  # a challenger that fails takes no memory, and ends no run but its own
                score_features(challenger, slice_, features, self.registry.load(challenger.model), self.options)
        return extracted, scored


def fit_memory(sample: SampleRun, limit: int, requested: RequestedLoad) -> MemoryPlan:
    """Decide how large partitions are and how many a process has at once.

    Raises:
        MemoryTooSmall: not even one small partition fits.
    """
    run = sample.run
    pins = run.steps or {"": run.model}
    digests = (*(pin.digest for pin in pins.values()), *(each.model.digest for each in run.challengers))
    key = " ".join([run.pipeline.fingerprint, *digests])
    if key in _measured:
        release_memory()
        profile = replace(_measured[key], base_bytes=held_memory())
    else:
        profile = _measured[key] = measure_memory_profile(sample, limit)
    return fit_partitions(limit, profile, requested)


def measure_memory_profile(sample: SampleRun, limit: int) -> MemoryProfile:
    """Measure on the first rows of the interval.

    Raises:
        MemoryTooSmall: the process is over the limit before it reads a row.
        TerminalError: an error that any partition would raise.
    """
    first = sample.extract(_FIRST_ROWS).primary
    row = max(first.nbytes / max(first.num_rows, 1), 1.0)
    few = _rows_of(_WARM_BYTES, row)
    sample.score(few)
    release_memory()
    base = held_memory()
    if base >= limit:
        raise MemoryTooSmall(sample.run.pipeline.name, limit, base, base, 0, 0)
    fixed = _growth(sample, few)[0] if len(sample.run.pipeline.sources) > 1 else 0
    many = max(_rows_of(min(_SAMPLE_BYTES, (limit - base) / _MOST_GROWTH), row), few)
    grown, extracted, scored = _growth(sample, many)
    count = max(extracted.primary.num_rows, 1)
    others = sum(table.nbytes for table in extracted.others.values())
    reasons = sample.run.pipeline.reasons
    stated = _REASON_BYTES if reasons else 0  # one line for each row, until it is explained
    written = _LOAD_COPIES * (scored.table.nbytes / count + stated)
    chosen = scored.features.table.nbytes / count + reasons.top * _REASON_BYTES if reasons else 0.0
    audited = sum(table.nbytes for table in scored.audit.values()) / count
    taken = max((grown - fixed) / count, extracted.primary.nbytes / count)
    return MemoryProfile(base, max(fixed, others), taken + written, audited, chosen)


def _growth(sample: SampleRun, rows: int) -> tuple[int, ExtractedRows, ScoredRows]:
    release_memory()
    with watching_memory() as watched:
        extracted, scored = sample.score(rows)
    return watched.growth, extracted, scored


def _rows_of(size: float, row_bytes: float) -> int:
    return max(1, min(int(size / row_bytes), _MOST_ROWS))
