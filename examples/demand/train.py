"""Train the forecast and the ranking on past weeks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from penstock import Manifest, Project, train
from penstock.examples.demand.generate import DEMAND, RECOMMEND, SCORED_WEEKS, WARM_UP, actuals, purchases
from penstock.examples.demand.world import WEEK
from penstock.examples.pack import Size
from penstock.examples.training import join_labels

GROUP = ("customer_id", "week")
"""Candidates are ranked within one customer and week."""


@dataclass(frozen=True)
class Question:
    """The training question of one of the two models."""

    pipeline: str
    time: str
    outcomes: sa.Table
    label: str
    objective: str
    max_depth: int
    rising: Mapping[str, int]
    """Features with which the score may only rise (1) or fall (-1): known directions, which a few weeks of data must
    not contradict."""
    group: tuple[str, ...] = ()

    def how(self, frame: pa.Table, unread: Sequence[str] = ()) -> dict[str, Any]:
        """Return the arguments of `penstock.train` except rows, label and order.

        Args:
            unread: Features to leave out.
        """
        others = ("product_id", "week", *self.group, self.time, self.label, *unread)
        features = [name for name in frame.column_names if name not in others]
        monotone = f"({','.join(str(self.rising.get(name, 0)) for name in features)})"
        params = {"max_depth": self.max_depth, "monotone_constraints": monotone}
        return {"features": features, "objective": self.objective, "group": self.group, "params": params}


UNITS = Question(
    DEMAND,
    "planned_at",
    actuals,
    "units",
    "count:poisson",  # so that an error is weighed against the expected count
    max_depth=4,
    rising={"units_1w": 1, "units_2w": 1, "units_4w": 1, "buyers_4w": 1, "discount": 1},
)
ORDER = Question(
    RECOMMEND,
    "made_at",
    purchases,
    "bought",
    "rank:ndcg",
    max_depth=3,
    rising={"bought_4w": 1, "category_lines_4w": 1, "sold_4w": 1, "days_since": -1},
    group=GROUP,
)


def learned_rows(project: Project, size: Size, asked: Question) -> pa.Table:
    """Return features and outcomes of the weeks before those that are scored.

    A plan made in an interval is about the week after it, so the last training week ends two weeks before.
    """
    begin = size.until - (size.days // 7 - WARM_UP + 1) * WEEK
    return join_outcomes(
        project, asked, [begin + at * WEEK for at in range(size.days // 7 - WARM_UP + 1 - SCORED_WEEKS)]
    )


def join_outcomes(project: Project, asked: Question, starts: Sequence[datetime]) -> pa.Table:
    """Return features and outcomes of the plans made in the weeks with these starts.

    For a ranking, only groups with a purchase stay: the others contain no order.
    """
    pipeline = project.load_pipeline(asked.pipeline)
    features = pa.concat_tables([project.read_features(pipeline, start, start + WEEK) for start in starts])
    known = project.query("retailer", sa.select(*(asked.outcomes.c[name] for name in (*pipeline.key, asked.label))))
    frame = join_labels(features, known, pipeline.key)
    if not asked.group:
        return frame
    most = frame.group_by(list(asked.group)).aggregate([(asked.label, "max")])
    some = most.filter(pc.greater(most[f"{asked.label}_max"], pa.scalar(0))).select(list(asked.group))
    kept = frame.join(some, list(asked.group), join_type="left semi")
    return kept.sort_by([(column, "ascending") for column in (*asked.group, "product_id")])


PROMOTIONS = ("discount", "discount_before")
"""Features that come from the log of promotions."""


def train_models(project: Project, size: Size) -> tuple[Manifest, ...]:
    """Train with the newest fifth as the holdout; register the champions, and a challenger that reads promotions."""
    frames = {asked.pipeline: learned_rows(project, size, asked) for asked in (UNITS, ORDER)}

    def fit(asked: Question, alias: str, unread: Sequence[str] = ()) -> Manifest:
        frame = frames[asked.pipeline]
        trained = train(frame, asked.label, order_by=asked.time, **asked.how(frame, unread))
        return trained.register(project.registry, asked.pipeline, alias)

    return fit(UNITS, "champion", PROMOTIONS), fit(UNITS, "challenger"), fit(ORDER, "champion")
