"""`python -m penstock.examples.demand generate | train | incident | evaluate`."""

from penstock.examples.commands import run_command
from penstock.examples.demand.evaluate import judge_generated, judge_real
from penstock.examples.demand.pack import PACK

if __name__ == "__main__":
    run_command(PACK, judge_generated, judge_real)
