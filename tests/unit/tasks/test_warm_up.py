"""Loading Great Expectations while rows are being read."""

import subprocess
import sys

from tests.waiting import SECONDS

WARM = """
import sys, threading
from penstock.tasks import warm_up

begun = []
class Thread(threading.Thread):
    def start(self):
        begun.append("sqlalchemy.orm.exc" in sys.modules)
warm_up.threading.Thread = Thread
import penstock.quality
penstock.quality.needs_great_expectations = lambda pipeline: True
before = "sqlalchemy.orm" in sys.modules
warm_up.warm_up(None)
print(before, begun)
"""


def test_queries_of_other_threads_meet_sqlalchemy_loaded_as_a_whole() -> None:
    told = subprocess.run([sys.executable, "-c", WARM], capture_output=True, text=True, check=True, timeout=SECONDS)

    assert told.stdout.split(" ", 1) == ["False", "[True]\n"]
