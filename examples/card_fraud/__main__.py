"""`python -m penstock.examples.card_fraud generate | train | incident | evaluate`."""

from penstock.examples.card_fraud.evaluate import judge_generated, judge_real
from penstock.examples.card_fraud.pack import PACK
from penstock.examples.commands import run_command

if __name__ == "__main__":
    run_command(PACK, judge_generated, judge_real)
