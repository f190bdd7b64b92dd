"""Check that all candidates wrote the same rows, each once, with equal scores."""

import numpy as np

from benchmarks.moving import read_scores
from benchmarks.place import Place
from benchmarks.workload import Workload, work_of

TOLERANCE = 1e-6


def check_scores(place: Place, workload: Workload, candidates: tuple[str, ...]) -> tuple[int, float]:
    """Return how many rows each candidate wrote and the largest difference between scores.

    Raises:
        RuntimeError: rows differ from the first candidate's, a key appears twice, or scores differ.
    """
    key, largest = work_of(place).key, 0.0
    agreeing = [name for name in workload.agree if name in candidates]
    keys, scores = read_scores(place.warehouses[agreeing[0]], "scores", key)
    if not len(keys) or (np.diff(keys) <= 0).any() or not np.isfinite(scores).all():
        raise RuntimeError(f"{agreeing[0]} wrote no rows, a key twice, or scores that are not finite")
    for name in agreeing[1:]:
        others, theirs = read_scores(place.warehouses[name], "scores", key)
        share = round(len(keys) * workload.rows_of.get(name, 1.0))  # the first ones by key
        if not np.array_equal(keys[:share], others):
            raise RuntimeError(f"{agreeing[0]} wrote {share:,} rows; {name} wrote {len(others):,}, or other keys")
        largest = max(largest, float(np.abs(scores[:share] - theirs).max()))
    if largest > TOLERANCE:
        raise RuntimeError(f"scores differ by up to {largest}")
    return len(keys), largest
