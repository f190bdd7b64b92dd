"""finance/card-fraud: find the card payments that are fraud, every hour, for a desk that can check a few."""

from penstock.examples.card_fraud.generate import PIPELINE, SCORED_HOURS, make_bank
from penstock.examples.card_fraud.incident import INCIDENTS, deliver_verdicts
from penstock.examples.card_fraud.train import train_models
from penstock.examples.pack import Labels, Pack, Scale

PACK: Pack = Pack(
    name="card-fraud",
    about="Which card payments are fraud, every hour",
    connections=("bank",),
    pipelines=(PIPELINE,),
    demo=Scale(rows=60_000, days=21),
    small=Scale(rows=12_000, days=8, dirty=0.02),
    scored=SCORED_HOURS,
    make=make_bank,
    train=train_models,
    deliver_labels=deliver_verdicts,
    labels={PIPELINE: Labels("bank", "verdicts", "fraud", "aucpr")},
    incidents=INCIDENTS,
)
