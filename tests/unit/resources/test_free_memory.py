"""The garbage collector leaves imported libraries alone, and looks at all that comes later."""

import subprocess
import sys

import pytest

from penstock.flows import score as scoring

CHILD = """
import gc
import penstock.flows.score
from penstock.resources.free_memory import freeze_libraries
print(gc.get_freeze_count())
freeze_libraries()
first = gc.get_freeze_count()
later = [[] for _ in range(1000)]
freeze_libraries()
print(first, gc.get_freeze_count())
"""


def test_libraries_are_frozen_once_a_process() -> None:
    child = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)

    before, first, second = (int(count) for count in child.stdout.split())
    assert before == 0
    assert first > 10_000
    assert second <= first


def test_the_scoring_flow_freezes_the_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise RuntimeError("frozen")

    monkeypatch.setattr(scoring, "freeze_libraries", refuse)

    with pytest.raises(RuntimeError, match="frozen"):
        scoring.score.fn("card-risk")
