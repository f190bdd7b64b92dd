"""finance/card-fraud: find the card payments that are fraud, every hour, and what they will cost, every night."""

from penstock.examples.card_fraud.generate import LOSSES, PIPELINE, SCORED_HOURS, make_bank
from penstock.examples.card_fraud.incident import FOLLOW_UPS, INCIDENTS, LABELS_AFTER, deliver_verdicts
from penstock.examples.card_fraud.train import train_models
from penstock.examples.pack import Labels, Pack, Scale

PACK: Pack = Pack(
    name="card-fraud",
    about="Which card payments are fraud, every hour",
    connections=("bank",),
    pipelines=(PIPELINE, LOSSES),
    demo=Scale(rows=60_000, days=21),
    small=Scale(rows=18_000, days=14, dirty=0.02),
    scored=SCORED_HOURS,
    make=make_bank,
    train=train_models,
    deliver_labels=deliver_verdicts,
    labels={name: Labels("bank", "verdicts", "fraud", "aucpr") for name in (PIPELINE, LOSSES)},
    incidents=INCIDENTS,
    labels_after=LABELS_AFTER,
    follow_ups=FOLLOW_UPS,
)
