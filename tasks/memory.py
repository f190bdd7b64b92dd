"""Keep the processes that score within `PENSTOCK_MEMORY`."""

from dataclasses import replace

from penstock.resources.free_memory import release_memory
from penstock.resources.memory import MemoryPlan, MemoryProfile, RequestedLoad, fit_partitions
from penstock.resources.usage import held_memory
from penstock.run_types import ScoringRun
from penstock.tasks.process_resources import connector, partition_options, registry, settings

_measured: dict[str, MemoryProfile] = {}
"""By spec and models: a flow run of many intervals measures the first one only."""


def fit_memory(run: ScoringRun, rows: int, partition_rows: int) -> MemoryPlan | None:
    """Decide how large partitions are and how many a process has at once; None without a limit.

    Raises:
        MemoryTooSmall: not even one small partition fits.
    """
    limit = settings().memory
    if limit is None or not rows:
        return None
    pipeline = run.pipeline
    wanted = RequestedLoad(pipeline.name, rows, partition_rows, settings().in_one_process, pipeline.audit_rows)
    return fit_partitions(limit, _memory_profile(run, limit), wanted)


def _memory_profile(run: ScoringRun, limit: int) -> MemoryProfile:
    pins = run.steps or {"": run.model}
    key = " ".join([run.pipeline.fingerprint, *(pin.digest for pin in pins.values())])
    if key in _measured:
        release_memory()
        return replace(_measured[key], base_bytes=held_memory())
    from penstock.models.memory_profile import SampleRun, measure_memory_profile  # not above: it imports pandas

    _measured[key] = measure_memory_profile(
        SampleRun(run, connector(), registry(), partition_options(run.pipeline)), limit
    )
    return _measured[key]
