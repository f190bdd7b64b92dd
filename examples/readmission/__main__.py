"""`python -m penstock.examples.readmission generate | train | incident | evaluate`."""

from penstock.examples.commands import run_command
from penstock.examples.readmission.evaluate import judge_generated, judge_real
from penstock.examples.readmission.pack import PACK

if __name__ == "__main__":
    run_command(PACK, judge_generated, judge_real)
