"""manufacturing/maintenance: predict failures within a day, every hour, and remaining life, every shift."""

from penstock.examples.maintenance.generate import FAILURE, LIFE, SCORED, make_plant
from penstock.examples.maintenance.incident import INCIDENTS, LABELS_AFTER, deliver_outcomes
from penstock.examples.maintenance.train import train_models
from penstock.examples.pack import Labels, Pack, Scale

PACK: Pack = Pack(
    name="maintenance",
    about="Which machines fail within a day, every hour, and how long each lasts, every shift",
    connections=("plant",),
    pipelines=(FAILURE, LIFE),
    demo=Scale(rows=7_680, days=20, dirty=0.01),
    small=Scale(rows=1_920, days=10, dirty=0.01),
    scored=SCORED,
    make=make_plant,
    train=train_models,
    deliver_labels=deliver_outcomes,
    labels={
        FAILURE: Labels("plant", "failed", "within_a_day", "aucpr"),
        LIFE: Labels("plant", "lasted", "hours", "mae"),
    },
    incidents=INCIDENTS,
    labels_after=LABELS_AFTER,
)
