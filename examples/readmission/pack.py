"""healthcare/readmission: predict who returns within thirty days, for a nurse who can call a few patients."""

from penstock.examples.pack import Labels, Pack, Scale
from penstock.examples.readmission.generate import PIPELINE, SCORED_DAYS, make_hospitals
from penstock.examples.readmission.incident import FOLLOW_UPS, INCIDENTS, LABELS_AFTER, deliver_outcomes
from penstock.examples.readmission.train import train_models

PACK: Pack = Pack(
    name="readmission",
    about="Which patients will be back within thirty days of their discharge",
    connections=("hospital",),
    pipelines=(PIPELINE,),
    demo=Scale(rows=24_000, days=120),
    small=Scale(rows=6_000, days=60, dirty=0.03),
    scored=SCORED_DAYS,
    make=make_hospitals,
    train=train_models,
    deliver_labels=deliver_outcomes,
    labels={PIPELINE: Labels("hospital", "readmissions", "within_30_days", "auc")},
    incidents=INCIDENTS,
    labels_after=LABELS_AFTER,
    follow_ups=FOLLOW_UPS,
)
