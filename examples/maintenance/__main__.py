"""`python -m penstock.examples.maintenance generate | train | incident | evaluate`."""

from penstock.examples.commands import run_command
from penstock.examples.maintenance.evaluate import judge_generated, judge_real
from penstock.examples.maintenance.pack import PACK

if __name__ == "__main__":
    run_command(PACK, judge_generated, judge_real)
