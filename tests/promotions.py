"""A shop whose challenger can be promoted: some days are scored with both, and the labels have come."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from penstock.ledger.promotions import PromotionRecord, list_promotions
from penstock.models.measuring import collect_and_measure
from penstock.models.registry import Registry
from penstock.models.training import train
from penstock.promotion.advance import Caller, Outcome, Promoter
from penstock.promotion.decision import Answer
from penstock.promotion.evidence import EvidenceReader
from penstock.promotion.specs import find_promoting
from tests.integration.test_labels import LABELS, Shop
from tests.shop import SPEC, Place, payments

NOW = datetime(2026, 1, 20, 7, tzinfo=UTC)
REQUIRE = "{intervals: 3, labelled: 600, auc: {not_worse_by: 0.01}, flips: {at_most: 0.9}, drift: none}"
PROMOTING = (
    SPEC
    + LABELS.replace("mature: 20d\n  slices: [country]", "mature: 1d")
    + "challengers: [{model: card-risk@challenger}]\n"
    + "decide: {decision: case when score > 0.5 then 'block' else 'pass' end}\n"
    + "drift: {against: model, distance: {psi: 50}}\n"
    + f"promotion: {{alias: champion, require: {REQUIRE}}}\n"
)


def label_table() -> sa.Table:
    return sa.Table(
        "chargebacks",
        sa.MetaData(),
        sa.Column("payment_id", sa.BigInteger),
        sa.Column("is_fraud", sa.Integer),
        sa.Column("reported_at", sa.DateTime(timezone=True)),
    )


def good_labels(amounts: Mapping[int, float]) -> list[dict[str, Any]]:
    """Return labels for which the challenger is the better model, by payment. SQLite takes times without zone."""
    seen = (NOW - timedelta(days=1)).replace(tzinfo=None)
    return [{"payment_id": key, "is_fraud": label, "reported_at": seen} for key, label in draw_labels(amounts).items()]


def draw_labels(amounts: Mapping[int, float], good: bool = True) -> dict[int, int]:
    """Draw labels for which the challenger is the better model, or the worse one."""
    rng = np.random.default_rng(3)
    return {key: int((amount > 25) != (rng.random() < 0.1)) ^ (not good) for key, amount in amounts.items()}


def register_challenger(registry: Registry, model: str = "card-risk", rounds: int = 3) -> str:
    """Register another version and point the alias `challenger` at it. Return the version."""
    rows = payments(days=2, a_day=300, seed=7).select(["amount", "items", "country", "first"])
    label = pa.array((rows["amount"].to_numpy() > 25).astype(int))
    fitted = train(rows.append_column("label", label), "label", rounds=rounds)
    return fitted.register(registry, model, alias="challenger").version


@dataclass
class PromotingShop:
    """The shop, and what takes its promotion further."""

    shop: Shop

    @property
    def place(self) -> Place:
        return self.shop.place

    @property
    def promoter(self) -> Promoter:
        promoting = find_promoting(self.place.spec.parent, "card-risk")
        return Promoter(EvidenceReader(promoting, self.shop.settings, self.shop.connect, self.place.registry))

    @property
    def champion(self) -> str:
        return self.place.registry.aliases("card-risk")["champion"]

    @property
    def moves(self) -> list[tuple[str | None, str, str]]:
        """The moves of the alias: from, to, and by whom. Its first move is left out."""
        history = self.place.registry.alias_history("card-risk")
        return [(m.previous, m.version, m.by) for m in history if m.alias == "champion" and m.previous]

    def records(self) -> list[PromotionRecord]:
        return list_promotions(self.shop.warehouse, "card-risk")

    def states(self) -> list[str]:
        """The states of the promotions, the oldest first."""
        return [record.state for record in reversed(self.records())]

    def advance(self, after: timedelta = timedelta(0), flow_run: str = "one", **how: Any) -> Outcome:
        return self.promoter.advance(Caller(flow_run, NOW + after, **how))

    def answer(self, approve: bool = True, after: timedelta = timedelta(minutes=5), **how: Any) -> Outcome:
        """Answer the newest question."""
        answer = Answer(self.records()[0].number, approve, "Ada", "looks well", NOW + after)
        return self.advance(after, answer=answer, **how)

    def report_labels(self, seen: datetime = NOW - timedelta(days=1), good: bool = True) -> None:
        """Let labels come for which the challenger is the better model, or the worse one."""
        drawn = draw_labels(self.shop.scores("amount"), good)
        self.shop.report([(key, label, seen) for key, label in drawn.items()])
        now = seen + timedelta(hours=1)
        collect_and_measure(self.shop.pipeline, self.shop.settings, self.shop.connect, self.place.registry, now)

    def correct_label(self, key: int, seen: datetime) -> None:
        """Let the label of one payment become the other one."""
        label = draw_labels(self.shop.scores("amount"))[key]
        self.shop.report([(key, 1 - label, seen)])
        now = NOW + timedelta(hours=1)
        collect_and_measure(self.shop.pipeline, self.shop.settings, self.shop.connect, self.place.registry, now)


def make_promoting_shop(
    make_place: Callable[..., Place], dialect: str = "sqlite", spec: str = PROMOTING
) -> PromotingShop:
    """Score three days with both versions, and collect their labels."""
    place = make_place(dialect, dialect, spec=spec)
    register_challenger(place.registry)
    shop = Shop(place)
    shop.score()
    found = PromotingShop(shop)
    found.report_labels()
    return found
