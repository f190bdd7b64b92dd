"""Write the bank: cards, payments and verdicts in its database, sign-ins in an access log, letters as files.

`python -m penstock.examples.card_fraud generate --rows 60000 --days 21 --seed 7 --dirty 0.003`
"""

import os
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from penstock import Project
from penstock.examples.card_fraud.letters import LETTERS, write_letters
from penstock.examples.card_fraud.world import CATEGORIES, CHANNELS, COUNTRIES, SignIns, World, draw_world
from penstock.examples.database import UTC_TIME, append_rows
from penstock.examples.drawing import Numbers, columns, moments
from penstock.examples.pack import Made, Size

PIPELINE = "card-fraud"
SCREEN = "card-fraud-screen"
LOSSES = "card-losses"
SCORED_HOURS = 4
SCORED_NIGHTS: int = SCORED_HOURS
"""The nightly pipeline scores as many days as the hourly one scores hours."""
LOG = Path("logs/bank/access.log")
NO_CATEGORY = "unknown"
_GARBAGE = ("\x16\x03\x01\x02 no request at all", "upstream timed out while reading response header")

metadata = sa.MetaData()
cards = sa.Table(
    "cards",
    metadata,
    sa.Column("card_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("login", sa.Text, nullable=False),
    sa.Column("home_country", sa.Text, nullable=False),
    sa.Column("issued_at", UTC_TIME, nullable=False),
)
payments = sa.Table(
    "payments",
    metadata,
    sa.Column("payment_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("card_id", sa.BigInteger, nullable=False, index=True),
    sa.Column("made_at", UTC_TIME, nullable=False, index=True),
    sa.Column("booked_at", UTC_TIME, nullable=False),
    sa.Column("amount", sa.Double),
    sa.Column("category", sa.Text, nullable=False),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("country", sa.Text, nullable=False),
    sa.Column("new_device", sa.Boolean, nullable=False),
)
calendar = sa.Table(
    "calendar",
    metadata,
    sa.Column("hour", UTC_TIME, primary_key=True),
    sa.Column("week_before", UTC_TIME, nullable=False),
)
verdicts = sa.Table(
    "verdicts",
    metadata,
    sa.Column("payment_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("decided_at", UTC_TIME, nullable=False),
    sa.Column("fraud", sa.Boolean, nullable=False),
)


def make_bank(project: Project, size: Size) -> Made:
    """Fill the bank's database and its log, without late payments and without the last days' verdicts."""
    world = draw_world(size)
    spoiled = spoil(world, size)
    on_time = np.flatnonzero(~is_withheld(world, size))
    known = np.flatnonzero(world.payments.decided <= world.second_of(size.until))
    bank = project.connect("bank")
    metadata.create_all(bank.engine)
    with bank.writing() as connection:
        append_rows(connection, cards, cards_table(world))
        append_rows(connection, calendar, _calendar_table(world, size))
        append_rows(connection, payments, payments_table(world, spoiled, on_time))
        append_rows(connection, verdicts, verdicts_table(world, known))
    lines, letters = _write_log(world, size), write_letters(world, size)
    scored = world.payments.second >= _scored_from(world, size)
    summary = {
        "bank: payments": f"{len(on_time):,} of {len(world.home):,} cards in {size.days} days",
        "bank: verdicts": f"{len(known):,}, of which {int(world.payments.fraud[known].sum()):,} are fraud",
        str(LOG.parent): f"{lines:,} lines of an access log",
        str(LETTERS): f"{letters:,} letters of customers, one file each",
    }
    nightly = in_nights(world, size, world.payments.second)
    to_score = {PIPELINE: int(scored.sum()), LOSSES: int(nightly.sum())}
    return Made(summary, to_score, {PIPELINE: len(spoiled), LOSSES: int(nightly[list(spoiled)].sum())})


def end_of_nights(size: Size) -> datetime:
    """Return the end of the newest whole day."""
    return size.until.replace(hour=0, minute=0, second=0, microsecond=0)


def in_nights(world: World, size: Size, second: Numbers) -> Numbers:
    """Mark moments of the days that the nightly pipeline scores."""
    end = world.second_of(end_of_nights(size))
    return np.asarray((second >= end - SCORED_NIGHTS * 86_400) & (second < end))


def spoil(world: World, size: Size) -> dict[int, str]:
    """Choose which of the scored, timely payments to corrupt, and how."""
    rng = np.random.default_rng([size.seed, 1])
    scored = np.flatnonzero((world.payments.second >= _scored_from(world, size)) & ~is_withheld(world, size))
    chosen = rng.permutation(scored)[: max(round(len(scored) * size.dirty), 3) if size.dirty else 0]
    return {at: ("amount", "sign", "category")[number % 3] for number, at in enumerate(chosen.tolist())}


def is_withheld(world: World, size: Size) -> Numbers:
    """Mark payments that an offline terminal books hours late. None in the newest scored hour."""
    second = world.payments.second
    newest = world.second_of(size.until) - 3600
    return (world.payments.late > 0) & (second >= _scored_from(world, size)) & (second < newest)


def payments_table(world: World, spoiled: dict[int, str], places: Numbers) -> pa.Table:
    """Return the payments at some positions as the bank's database stores them."""
    drawn = world.payments
    amount, category = drawn.amount.copy(), np.array(CATEGORIES, object)[drawn.category]
    for at, how in spoiled.items():
        if how == "category":
            category[at] = NO_CATEGORY
        else:
            amount[at] = np.nan if how == "amount" else -amount[at]
    return columns(
        {
            "payment_id": places + 1,
            "card_id": drawn.card[places] + 1,
            "made_at": moments(world.begin, drawn.second[places]),
            "booked_at": moments(world.begin, (drawn.second + drawn.late)[places]),
            "amount": amount[places],
            "category": category[places],
            "channel": np.array(CHANNELS, object)[drawn.channel[places]],
            "country": np.array(COUNTRIES, object)[drawn.country[places]],
            "new_device": drawn.new_device[places],
        }
    )


def cards_table(world: World) -> pa.Table:
    number = np.arange(len(world.home))
    return columns(
        {
            "card_id": number + 1,
            "login": [login(card) for card in number.tolist()],
            "home_country": np.array(COUNTRIES, object)[world.home],
            "issued_at": moments(world.begin, -world.age * 86_400),
        }
    )


def verdicts_table(world: World, places: Numbers) -> pa.Table:
    drawn = world.payments
    decided = moments(world.begin, drawn.decided[places])
    return columns({"payment_id": places + 1, "decided_at": decided, "fraud": drawn.fraud[places]})


def login(card: int) -> str:
    return f"c{card + 1:06d}"


def log_lines(begin: datetime, sign_ins: SignIns) -> Iterable[str]:
    """Write sign-ins as the bank's web server does, in the combined format."""
    drawn = (sign_ins.second, sign_ins.card, sign_ins.failed, sign_ins.foreign)
    for second, card, failed, foreign in zip(*(column.tolist() for column in drawn), strict=True):
        host = f"198.51.100.{card % 250}" if foreign else f"10.{card % 200}.{card // 200 % 250}.7"
        at = (begin + timedelta(seconds=second)).astimezone(UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")
        yield f'{host} - {login(card)} [{at}] "POST /sign-in HTTP/1.1" {401 if failed else 200} 512 "-" "bank-app/7"\n'


def _calendar_table(world: World, size: Size) -> pa.Table:
    hours = np.arange((size.days + 7) * 24) * 3600
    return columns({"hour": moments(world.begin, hours), "week_before": moments(world.begin, hours - 7 * 86_400)})


def _write_log(world: World, size: Size) -> int:
    """Write the log, rotated at the start of the scored hours. A few lines before that are garbage."""
    lines = list(log_lines(world.begin, world.sign_ins))
    cut = int(np.searchsorted(world.sign_ins.second, _scored_from(world, size)))
    for at in range(1, 1 + round(cut * size.dirty / 3)):
        lines[at * cut // (2 + round(cut * size.dirty / 3))] += _GARBAGE[at % 2] + "\n"
    LOG.parent.mkdir(parents=True, exist_ok=True)
    rotated = LOG.with_name(f"{LOG.name}.1")
    rotated.write_text("".join(lines[:cut]), encoding="utf-8")
    then = (size.until - timedelta(hours=SCORED_HOURS)).timestamp()
    os.utime(rotated, (then, then))
    LOG.write_text("".join(lines[cut:]), encoding="utf-8")
    return len(lines)


def _scored_from(world: World, size: Size) -> int:
    return world.second_of(size.until) - SCORED_HOURS * 3600
