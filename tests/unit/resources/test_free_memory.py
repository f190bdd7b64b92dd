"""The garbage collector leaves imported libraries alone, and looks at all that comes later."""

import subprocess
import sys

CHILD = """
import gc
import penstock.tasks.partitions as partitions
print(gc.get_freeze_count())
list(partitions.score_partitions(None, [], 1, 1.0))
first = gc.get_freeze_count()
later = [[] for _ in range(1000)]
list(partitions.score_partitions(None, [], 1, 1.0))
print(first, gc.get_freeze_count())
"""


def test_libraries_are_frozen_once_a_process_when_partitions_begin() -> None:
    child = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)

    before, first, second = (int(count) for count in child.stdout.split())
    assert before == 0
    assert first > 10_000
    assert second <= first
