"""Draw the bank's data: cards, payments, sign-ins, and which payments were fraud.

Most fraud is a takeover: a stranger signs in, often after failed tries, and makes a few online payments within minutes,
larger than usual for the card. Honest customers mistype passwords too, and honest shopping sprees resemble a takeover.
In the last two whole days thieves also pay with stolen phones, and these payments look like any others.
"""

from dataclasses import dataclass, fields
from datetime import datetime, timedelta

import numpy as np

from penstock.examples.drawing import Numbers
from penstock.examples.pack import Size

CATEGORIES = ("grocery", "fuel", "restaurant", "clothing", "electronics", "travel", "gift_cards")
_CATEGORY_SHARES = (0.38, 0.14, 0.18, 0.13, 0.08, 0.06, 0.03)
CHANNELS = ("chip", "contactless", "online")
COUNTRIES = ("DE", "FR", "NL", "ES", "PL")
DECIDED_WITHIN = timedelta(days=4)
"""The longest time after a payment until its verdict is known."""
TAKEOVER_SHARE = 0.008
PHONES_SHARE = 0.007
"""Of the payments of a day, those with a stolen phone."""
PHONE_DAYS = timedelta(days=2)
FREE_OF_PHONES: timedelta = timedelta(hours=4)
"""The newest hours have none."""
PAYMENTS_A_CARD = 30


@dataclass(frozen=True)
class Payments:
    """Columns in the order of time. A payment's number is its position, from 1."""

    second: Numbers
    """Since the start of the data."""
    card: Numbers
    amount: Numbers
    category: Numbers
    channel: Numbers
    country: Numbers
    new_device: Numbers
    fraud: Numbers
    decided: Numbers
    """Second in which the verdict becomes known."""
    late: Numbers
    """Seconds between payment and booking. 0 for most."""


@dataclass(frozen=True)
class SignIns:
    """Requests to sign in, in the order of time."""

    second: Numbers
    card: Numbers
    failed: Numbers
    foreign: Numbers
    """Whether the host is not the customer's."""


@dataclass(frozen=True)
class Letters:
    """Letters of customers to the bank."""

    second: Numbers
    card: Numbers
    phished: Numbers
    """Whether the customer says that a stranger has the password."""


@dataclass(frozen=True)
class World:
    begin: datetime
    home: Numbers
    """Country of each card."""
    age: Numbers
    """Age of each card in days, at the start of the data."""
    payments: Payments
    sign_ins: SignIns
    letters: Letters

    def second_of(self, moment: datetime) -> int:
        return int((moment - self.begin).total_seconds())


@dataclass(frozen=True)
class _Bouts:
    """Groups of payments within minutes of each other."""

    first: Numbers
    card: Numbers
    payments: Numbers
    failed: Numbers
    """Failed sign-ins before the first payment."""


def draw_world(size: Size) -> World:
    """Draw everything. The same size gives the same data."""
    rng = np.random.default_rng(size.seed)
    begin = size.until - timedelta(days=size.days)
    cards = max(size.rows // PAYMENTS_A_CARD, 50)
    home, age, usual = rng.choice(len(COUNTRIES), cards), rng.integers(30, 3000, cards), rng.normal(3.2, 0.5, cards)
    takeovers = _draw_bouts(rng, size, cards, TAKEOVER_SHARE, is_takeover=True)
    sprees = _draw_bouts(rng, size, cards, TAKEOVER_SHARE, is_takeover=False)
    payments = draw_payments(rng, size, begin, home, usual, (takeovers, sprees))
    payments = _merge(payments, _draw_phones(size, begin, home, usual))
    sign_ins = _draw_sign_ins(rng, size, cards, takeovers)
    return World(begin, home, age, payments, sign_ins, _draw_letters(size, cards, takeovers))


def _draw_bouts(rng: np.random.Generator, size: Size, cards: int, share: float, *, is_takeover: bool) -> _Bouts:
    count = max(round(size.rows * share / 3.5), 4)
    first = rng.integers(3600, size.days * 86_400 - 7200, count)
    first[:3] = size.days * 86_400 - np.array([13_000, 10_500, 8_000])  # so that the last hours contain fraud
    # Two in five passwords were phished: they work at the first try, and the log only shows another host.
    failed = np.where(is_takeover & (rng.random(count) < 0.6), 3 + rng.poisson(2, count), 0)
    return _Bouts(first, rng.integers(0, cards, count), 2 + rng.binomial(3, 0.5, count), failed)


def draw_payments(
    rng: np.random.Generator, size: Size, begin: datetime, home: Numbers, usual: Numbers, bouts: tuple[_Bouts, _Bouts]
) -> Payments:
    """Draw single payments and those of both kinds of bouts, with their verdicts."""
    kind = np.concatenate([np.full(int(b.payments.sum()), at) for at, b in enumerate(bouts)])
    single = max(size.rows - len(kind), 0)
    kind = np.concatenate([kind, np.full(single, 2)])
    second = np.concatenate([*(_bout_seconds(rng, b) for b in bouts), _single_seconds(rng, size, begin, single)])
    card = np.concatenate([*(np.repeat(b.card, b.payments) for b in bouts), rng.integers(0, len(home), single)])
    takeover, bout = kind == 0, kind < 2
    count = len(kind)
    amount = np.exp(usual[card] + rng.normal(0, 0.6, count) + np.where(takeover, 0.9, np.where(bout, 0.7, 0.0)))
    category = rng.choice(len(CATEGORIES), count, p=_CATEGORY_SHARES)
    category = np.where(takeover & (rng.random(count) < 0.6), rng.choice([4, 6], count), category)
    online = rng.random(count) < np.where(takeover, 0.95, np.where(bout, 0.6, 0.3))
    channel = np.where(online, 2, rng.integers(0, 2, count))
    country = np.where(rng.random(count) < 0.04, rng.choice(len(COUNTRIES), count), home[card])
    new_device = rng.random(count) < np.where(takeover, 0.6, 0.06)
    ratio = np.log(amount) - usual[card]
    logit = -7.9 + 1.2 * ratio + 1.1 * online + 0.9 * (category == 6) + 1.3 * (country != home[card]) + 0.8 * new_device
    fraud = rng.random(count) < np.where(takeover, 0.88, 1 / (1 + np.exp(-logit)))
    late = np.where(~bout & (channel == 0) & (rng.random(count) < 0.02), rng.integers(2 * 3600, 6 * 3600, count), 0)
    decided = second + rng.integers(86_400, int(DECIDED_WITHIN.total_seconds()), count)
    order = np.argsort(second, kind="stable")
    amount = np.round(amount, 2)
    columns = (second, card, amount, category, channel, country, new_device, fraud, decided, late)
    return Payments(*(column[order] for column in columns))


def _draw_phones(size: Size, begin: datetime, home: Numbers, usual: Numbers) -> Payments:
    """Draw payments with stolen phones: at the till, of the usual size, at home, on a known device."""
    rng = np.random.default_rng([size.seed, 4])
    midnight = size.until.replace(hour=0, minute=0, second=0, microsecond=0)
    end = min(midnight, size.until - FREE_OF_PHONES)
    first, last = (int((moment - begin).total_seconds()) for moment in (midnight - PHONE_DAYS, end))
    count = max(round(PHONES_SHARE * size.rows / size.days * (last - first) / 86_400), 4)
    second, card = np.sort(rng.integers(first, last, count)), rng.integers(0, len(home), count)
    amount = np.round(np.exp(usual[card] + rng.normal(-0.2, 0.5, count)), 2)
    category = rng.choice(len(CATEGORIES), count, p=_CATEGORY_SHARES)
    no, yes, zeros = np.full(count, False), np.full(count, True), np.zeros(count, np.int64)
    decided = second + rng.integers(86_400, int(DECIDED_WITHIN.total_seconds()), count)
    contactless = zeros + CHANNELS.index("contactless")
    return Payments(second, card, amount, category, contactless, home[card], no, yes, decided, zeros)


def _merge(some: Payments, others: Payments) -> Payments:
    """Return both in the order of time."""
    order = np.argsort(np.concatenate([some.second, others.second]), kind="stable")
    return Payments(
        *(np.concatenate([getattr(some, f.name), getattr(others, f.name)])[order] for f in fields(Payments))
    )


def _bout_seconds(rng: np.random.Generator, bouts: _Bouts) -> Numbers:
    """Draw one to ten minutes between the payments of a bout."""
    gaps = rng.integers(60, 600, int(bouts.payments.sum()))
    starts = np.cumsum(bouts.payments) - bouts.payments
    gaps[starts] = 0
    elapsed = np.cumsum(gaps)
    return np.asarray(np.repeat(bouts.first - elapsed[starts], bouts.payments) + elapsed)


def _single_seconds(rng: np.random.Generator, size: Size, begin: datetime, count: int) -> Numbers:
    """Draw the times of single payments: few at night, most in the afternoon."""
    hours = np.arange(size.days * 24)
    weight = 0.25 + np.exp(-(((begin.hour + hours) % 24 - 15) ** 2) / 40)
    return np.asarray(rng.choice(hours, count, p=weight / weight.sum()) * 3600 + rng.integers(0, 3600, count))


def _draw_sign_ins(rng: np.random.Generator, size: Size, cards: int, takeovers: _Bouts) -> SignIns:
    """Draw sign-ins: customers, some of whom mistype, and attackers who try until a password works."""
    looks = rng.integers(0, size.days * 86_400, size.rows)
    typed = rng.integers(0, cards, size.rows)
    mistyped = rng.random(size.rows) < 0.08
    tries = np.repeat(takeovers.first, takeovers.failed) - rng.integers(60, 2400, int(takeovers.failed.sum()))
    second = np.concatenate([looks, looks[mistyped] - 20, tries, takeovers.first - 45])
    card = np.concatenate([typed, typed[mistyped], np.repeat(takeovers.card, takeovers.failed), takeovers.card])
    sizes = (len(looks), int(mistyped.sum()), len(tries), len(takeovers.first))
    failed = np.repeat([False, True, True, False], sizes)
    foreign = np.repeat([False, False, True, True], sizes)
    order = np.argsort(second, kind="stable")
    return SignIns(second[order], card[order], failed[order], foreign[order])


def _draw_letters(size: Size, cards: int, takeovers: _Bouts) -> Letters:
    """Draw complaints of all kinds, and those of most customers whose password was phished, days before it is used."""
    rng = np.random.default_rng([size.seed, 2])
    phished = (takeovers.failed == 0) & (rng.random(len(takeovers.first)) < 0.7)
    before = takeovers.first[phished] - rng.integers(3 * 3600, 4 * 86_400, int(phished.sum()))
    others = max(size.rows // 150, 20)
    second = np.concatenate([before, rng.integers(0, size.days * 86_400, others)])
    card = np.concatenate([takeovers.card[phished], rng.integers(0, cards, others)])
    # A few say so and nothing follows.
    says = np.concatenate([np.full(len(before), True), rng.random(others) < 0.03])
    there = second >= 0
    return Letters(second[there], card[there], says[there])
