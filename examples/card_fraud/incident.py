"""Incidents at the bank, and labels that arrive late."""

from datetime import timedelta

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from penstock import Project
from penstock.examples.card_fraud.generate import (
    LOG,
    LOSSES,
    PIPELINE,
    cards,
    cards_table,
    end_of_nights,
    is_withheld,
    log_lines,
    payments,
    payments_table,
    spoil,
    verdicts,
    verdicts_table,
)
from penstock.examples.card_fraud.world import DECIDED_WITHIN, SignIns, draw_world
from penstock.examples.database import append_rows
from penstock.examples.drawing import columns, moments
from penstock.examples.pack import FollowUp, Incident, Size

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
CENTS = 100
BURST_IDS = 1_000_000_000
"""Payments of the burst have numbers from here on."""


def rename_channel(project: Project, size: Size) -> None:
    _execute(project, sa.text("alter table payments rename column channel to entry_mode"))


def rename_channel_back(project: Project, size: Size) -> None:
    _execute(project, sa.text("alter table payments rename column entry_mode to channel"))


def lose_cards(project: Project, size: Size) -> None:
    _execute(project, sa.delete(cards).where(cards.c.card_id % 2 == 0))


def copy_cards_again(project: Project, size: Size) -> None:
    table = cards_table(draw_world(size))
    with project.connect("bank").writing() as connection:
        append_rows(connection, cards, table.take(pa.array(range(1, table.num_rows, 2))))  # those with even numbers


def write_cents(project: Project, size: Size) -> None:
    _scale_amounts(project, size, CENTS)


def write_euros_again(project: Project, size: Size) -> None:
    _scale_amounts(project, size, 1 / CENTS)


def burst(project: Project, size: Size) -> None:
    """Add half as many payments as the newest hour has, three for each card that was just taken over."""
    world, rng = draw_world(size), np.random.default_rng([size.seed, 2])
    usual = int((world.payments.second >= world.second_of(size.until - HOUR)).sum())
    cards_hit = rng.choice(len(world.home), max(usual // 6, 3), replace=False)
    begin = world.second_of(size.until) - 2400
    tries = np.repeat(cards_hit, 5)
    seconds, yes = begin - 300 + np.tile(np.arange(5) * 40, len(cards_hit)), np.full(len(tries), True)
    with LOG.open("a", encoding="utf-8") as log:
        log.writelines(log_lines(world.begin, SignIns(seconds, tries, yes, yes)))
    card = np.repeat(cards_hit, 3)
    made = begin + np.tile([0, 150, 400], len(cards_hit)) + np.repeat(rng.integers(0, 1500, len(cards_hit)), 3)
    count = len(card)
    table = {
        "payment_id": np.arange(count) + BURST_IDS,
        "card_id": card + 1,
        "made_at": moments(world.begin, made),
        "booked_at": moments(world.begin, made),
        "amount": np.round(rng.uniform(90, 400, count), 2),
        "category": ["gift_cards"] * count,
        "channel": ["online"] * count,
        "country": ["NL"] * count,
        "new_device": np.full(count, True),
    }
    with project.connect("bank").writing() as connection:
        append_rows(connection, payments, columns(table))


def reverse_burst(project: Project, size: Size) -> None:
    _execute(project, sa.delete(payments).where(payments.c.payment_id >= BURST_IDS))


def book_late(project: Project, size: Size) -> None:
    world = draw_world(size)
    late = payments_table(world, spoil(world, size), np.flatnonzero(is_withheld(world, size)))
    with project.connect("bank").writing() as connection:
        append_rows(connection, payments, late)


def change_terminals(project: Project, size: Size) -> None:
    """Make most payments by chip of the newest day contactless."""
    night = end_of_nights(size)
    day = (payments.c.made_at >= night - DAY, payments.c.made_at < night)
    most = (payments.c.channel == "chip", payments.c.card_id % 4 != 0)
    _execute(project, sa.update(payments).where(*day, *most).values(channel="contactless"))


def leave_as_it_is(project: Project, size: Size) -> None:
    """Do nothing: there is nothing to repair."""


def deliver_verdicts(project: Project, size: Size) -> int:
    """Write the verdicts that were still unknown. Return their number."""
    world = draw_world(size)
    known = project.query("bank", sa.select(verdicts.c.payment_id))["payment_id"].to_numpy() - 1
    open_ = np.setdiff1d(np.arange(len(world.payments.second)), known)
    with project.connect("bank").writing() as connection:
        append_rows(connection, verdicts, verdicts_table(world, open_))
    return len(open_)


def _scale_amounts(project: Project, size: Size, factor: float) -> None:
    newest = payments.c.made_at >= size.until - HOUR
    _execute(project, sa.update(payments).where(newest).values(amount=payments.c.amount * factor))


def _execute(project: Project, statement: sa.Executable) -> None:
    with project.connect("bank").writing() as connection:
        connection.execute(statement)


INCIDENTS: tuple[Incident, ...] = (
    Incident(
        "renamed",
        "schema",
        PIPELINE,
        "A release of the booking system renames `payments.channel` to `entry_mode`.",
        rename_channel,
        rename_channel_back,
        "The release is rolled back, or the features query takes the new name.",
        "halted",
        "`channel` was text and is gone",
    ),
    Incident(
        "cards-cut-off",
        "upstream",
        PIPELINE,
        "The nightly copy of `cards` breaks off: every second card is missing.",
        lose_cards,
        copy_cards_again,
        "The copy is run again.",
        "halted",
        "refused",
    ),
    Incident(
        "cents",
        "drift",
        PIPELINE,
        "In the last hour, a payment service writes cents instead of euros.",
        write_cents,
        write_euros_again,
        "The service is fixed, and writes the hour again.",
        "halted",
        "amount_to_usual column_mean_to_be_between",
    ),
    Incident(
        "burst",
        "drift",
        PIPELINE,
        "Stolen passwords are for sale: dozens of cards are taken over within half an hour.",
        burst,
        reverse_burst,
        "The desk blocks the cards and reverses the payments; the hour is scored again without them.",
        "noted",
        "score column_mean_to_be_between",
    ),
    Incident(
        "late",
        "late",
        PIPELINE,
        "Terminals on trains come online, and book payments of hours that were scored before.",
        book_late,
        leave_as_it_is,
        "Nothing: the hours of these payments are scored again.",
        "restated",
    ),
    Incident(
        "terminals",
        "drift",
        LOSSES,
        "A chain of shops has new terminals, and most customers do not insert their card any more.",
        change_terminals,
        leave_as_it_is,
        "the new terminals of the chain: the channels are right, and so are the payments",
        "accepted",
        "`channel`: PSI",
    ),
)
LABELS_AFTER: tuple[timedelta, ...] = (DAY, 2 * DAY, DECIDED_WITHIN)
FOLLOW_UPS: tuple[FollowUp, ...] = (
    FollowUp(
        LOSSES,
        "Thieves pay with stolen phones. Each payment looks like any other, and only the verdicts show it.",
        "auc",
        "alerted",
        "The desk asks the phone companies which phones are stolen, and a model is trained on that.",
    ),
)
