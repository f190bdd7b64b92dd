"""retail/demand: forecast each store's sales of next week, and rank products for each customer."""

from penstock.examples.demand.generate import DEMAND, RECOMMEND, SCORED_WEEKS, make_retailer
from penstock.examples.demand.incident import FOLLOW_UPS, INCIDENTS, LABELS_AFTER, deliver_outcomes
from penstock.examples.demand.train import GROUP, train_models
from penstock.examples.pack import Labels, Pack, Scale

PACK: Pack = Pack(
    name="demand",
    about="What each store will sell next week, and what each customer should be shown",
    connections=("retailer",),
    pipelines=(DEMAND, RECOMMEND),
    demo=Scale(rows=40_000, days=84),
    small=Scale(rows=4_000, days=56, dirty=0.02),
    scored=SCORED_WEEKS,
    make=make_retailer,
    train=train_models,
    deliver_labels=deliver_outcomes,
    labels={
        DEMAND: Labels("retailer", "actuals", "units", "mae"),
        RECOMMEND: Labels("retailer", "purchases", "bought", "ndcg@5", group=GROUP),
    },
    incidents=INCIDENTS,
    labels_after=LABELS_AFTER,
    follow_ups=FOLLOW_UPS,
)
