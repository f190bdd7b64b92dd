"""The made-up shop of `penstock demo`: payments in SQLite, an access log, exchange rates as files.

All values are drawn from a seed. Charge-backs depend on the features (amount, age of the account, failed logins, hour,
country), so that a model can learn them. Faults are planted on purpose and counted, so that a test can compare the
demo's counts with them.
"""

import gzip
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import sqlalchemy as sa

from penstock.database.bulk import bulk_transaction
from penstock.database.connections import Database
from penstock.database.types import UtcDateTime
from penstock.interval import DataInterval, Grid

TRAINING_DAYS = 5
SCORED_DAYS = 3
DAY = timedelta(days=1)
CENTS = 100
"""The factor by which the amounts of the last day are too large, until they are repaired."""
NO_COUNTRY = "ZZ"
NO_CURRENCY = "XBT"

_CURRENCIES = {"EUR": 1.0, "PLN": 0.234, "SEK": 0.0885, "GBP": 1.16, "CHF": 1.06}
_COUNTRIES = {"DE": "EUR", "FR": "EUR", "IT": "EUR", "ES": "EUR", "PL": "PLN", "SE": "SEK", "GB": "GBP", "CH": "CHF"}
_SHARES = (0.26, 0.2, 0.13, 0.11, 0.12, 0.06, 0.08, 0.04)
_RISK = np.array([-0.3, 0.0, 0.4, 0.2, 0.5, -0.6, 0.1, -0.5])
_PATHS = np.array(["/", "/search?q=shoes", "/product/{}", "/product/{}", "/cart", "/account", "/static/app.js"])
_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/138.0.0.0",
)
_BROKEN = (
    'PHP Warning:  Undefined array key "cart" in /srv/shop/cart.php on line 212',
    "10.3.4.17 - - [",
    "\x16\x03\x01\x02 not a request at all",
)
_BROKEN_SHARE = 0.001

metadata = sa.MetaData()
payments = sa.Table(
    "payments",
    metadata,
    sa.Column("payment_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("created_at", UtcDateTime, nullable=False, index=True),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.Column("customer_id", sa.BigInteger, nullable=False),
    sa.Column("amount", sa.Double),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("country", sa.Text, nullable=False),
    sa.Column("items", sa.BigInteger, nullable=False),
    sa.Column("new_card", sa.Boolean, nullable=False),
)
customers = sa.Table(
    "customers",
    metadata,
    sa.Column("customer_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("login", sa.Text, nullable=False, unique=True),
    sa.Column("since", UtcDateTime, nullable=False),
)
outcomes = sa.Table(
    "outcomes",
    metadata,
    sa.Column("payment_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("charged_back", sa.Boolean, nullable=False),
)

Numbers = npt.NDArray[Any]


@dataclass(frozen=True)
class Planted:
    """Faults in the days to score, and in the log."""

    null_amounts: int
    negative_amounts: int
    unknown_countries: int
    unknown_currencies: int
    broken_lines: int


@dataclass(frozen=True)
class Shop:
    """The shop that was made."""

    days: tuple[DataInterval, ...]
    payments: int
    customers: int
    log_lines: int
    planted: Planted

    @property
    def training_days(self) -> tuple[DataInterval, ...]:
        """Days with known outcomes."""
        return self.days[:TRAINING_DAYS]

    @property
    def scored_days(self) -> tuple[DataInterval, ...]:
        """Days that the pipeline scores. The last one is broken until it is repaired."""
        return self.days[TRAINING_DAYS:]


@dataclass(frozen=True)
class _Sales:
    """The columns of the payments in order of time, before faults are planted."""

    seconds: Numbers
    """Since the first day."""
    customer: Numbers
    amount_eur: Numbers
    country: Numbers
    items: Numbers
    new_card: Numbers
    failed_logins: Numbers
    """In the hours before the payment."""
    age: Numbers
    """Of the account, in days."""


def make_shop(folder: Path, database: Database, until: datetime, rows: int, seed: int) -> Shop:
    """Make the shop's database, its `logs/` and its `lake/`.

    Args:
        until: end of the last day, a midnight in UTC.
        rows: payments over all days together.
        seed: the same seed and `until` give the same shop.
    """
    rng = np.random.default_rng(seed)
    days = Grid(until - (TRAINING_DAYS + SCORED_DAYS) * DAY, DAY).split(until)
    first = days[0].start
    count = max(rows // 10, 50)
    accounts = np.floor(rng.exponential(400, count)) + TRAINING_DAYS + SCORED_DAYS
    homes = rng.choice(len(_COUNTRIES), count, p=_SHARES)
    sales = _draw_sales(rng, rows, len(days), accounts, homes)
    rates = _draw_rates(rng, len(days))
    logins = np.array([f"customer{number:05d}" for number in range(1, count + 1)])
    _write_rates(folder / "lake" / "rates", days, rates)
    table, faults = _payments_table(rng, sales, first, rates)
    charged_back = rng.random(rows) < _charge_back_risk(sales)
    known = sales.seconds < TRAINING_DAYS * DAY.total_seconds()
    since = pa.array([first - age * DAY for age in accounts.tolist()], pa.timestamp("us", "UTC"))
    people = {"customer_id": pa.array(np.arange(1, count + 1)), "login": pa.array(logins.tolist()), "since": since}
    known_outcomes = {"payment_id": pa.array(np.flatnonzero(known) + 1), "charged_back": pa.array(charged_back[known])}
    metadata.create_all(database.engine)
    with bulk_transaction(database) as transaction:
        transaction.append(payments, table)
        transaction.append(customers, pa.table(people))
        transaction.append(outcomes, pa.table(known_outcomes))
    lines, broken = _write_log(rng, folder / "logs", sales, logins, first, len(days))
    nulls, negatives, countries, currencies = faults
    planted = Planted(nulls, negatives, countries, currencies, broken)
    return Shop(tuple(days), rows, count, lines, planted)


def repair_amounts(database: Database, day: DataInterval, now: datetime) -> int:
    """Change the amounts of a day from cents to whole units. Return how many rows changed."""
    repair = (
        sa.update(payments)
        .where(payments.c.created_at >= day.start, payments.c.created_at < day.end)
        .values(amount=sa.func.round(payments.c.amount / CENTS, 2), updated_at=now)
    )
    with database.writing() as connection:
        return connection.execute(repair).rowcount


def _draw_sales(rng: np.random.Generator, rows: int, days: int, accounts: Numbers, homes: Numbers) -> _Sales:
    a_day = rng.multinomial(rows, np.full(days, 1 / days))
    clock = np.clip(rng.normal(15, 5, rows), 0, 23.99) * 3600
    at_night = rng.random(rows) < 0.12
    clock[at_night] = rng.uniform(0, 6, int(at_night.sum())) * 3600
    seconds = np.sort(np.repeat(np.arange(days), a_day) * 86_400 + clock.astype(np.int64))
    customer = rng.integers(0, len(accounts), rows)
    abroad = rng.random(rows) < 0.04
    shaky = rng.random(rows) < 0.08
    return _Sales(
        seconds=seconds,
        customer=customer,
        amount_eur=rng.lognormal(3.4, 0.9, rows),
        country=np.where(abroad, rng.integers(0, len(_COUNTRIES), rows), homes[customer]),
        items=1 + rng.poisson(1.8, rows),
        new_card=rng.random(rows) < 0.15,
        failed_logins=np.where(shaky, 1 + rng.poisson(1.5, rows), 0),
        age=accounts[customer] + seconds // 86_400,
    )


def _charge_back_risk(sales: _Sales) -> Numbers:
    logit = (
        -5.4
        + 1.1 * (np.log(sales.amount_eur) - 3.4)
        + 1.3 * np.minimum(sales.failed_logins, 3)
        + 1.5 * (sales.age < 60)
        + 1.0 * sales.new_card
        + 0.9 * (sales.seconds % 86_400 < 6 * 3600)
        + _RISK[sales.country]
    )
    return np.asarray(1 / (1 + np.exp(-logit)))


def _draw_rates(rng: np.random.Generator, days: int) -> Numbers:
    """Return the value of a unit of each currency in euros, by day."""
    moves = np.cumprod(1 + rng.normal(0, 0.003, (days, len(_CURRENCIES))), axis=0)
    rates: Numbers = np.array(list(_CURRENCIES.values())) * moves
    rates[:, 0] = 1.0
    return np.round(rates, 5)


def _write_rates(folder: Path, days: Sequence[DataInterval], rates: Numbers) -> None:
    folder.mkdir(parents=True)
    for day, values in zip(days, rates.tolist(), strict=True):
        lines = [f"{currency},{value}" for currency, value in zip(_CURRENCIES, values, strict=True)]
        text = "\n".join(["currency,to_eur", *lines, ""])
        (folder / f"{day.start:%Y-%m-%d}.csv").write_text(text, encoding="utf-8")


def _payments_table(
    rng: np.random.Generator, sales: _Sales, first: datetime, rates: Numbers
) -> tuple[pa.Table, list[int]]:
    """Return the payments as the shop wrote them, and the number of each fault in the order of `Planted`."""
    day = sales.seconds // 86_400
    names = list(_CURRENCIES)
    places = np.array([names.index(currency) for currency in _COUNTRIES.values()])[sales.country]
    amount = np.round(sales.amount_eur / rates[day, places], 2)
    currency = np.array(names, dtype=object)[places]
    country = np.array(list(_COUNTRIES), dtype=object)[sales.country]
    missing = np.zeros(len(amount), dtype=bool)
    counts: Numbers = np.zeros(4, dtype=np.int64)
    for dirty in range(TRAINING_DAYS, TRAINING_DAYS + SCORED_DAYS - 1):
        rows = rng.permutation(np.flatnonzero(day == dirty))
        sizes = np.maximum(1, np.round(len(rows) * np.array([0.002, 0.0015, 0.001, 0.0005]))).astype(np.int64)
        nulls, negatives, countries, currencies, _ = np.split(rows, np.cumsum(sizes))
        missing[nulls] = True
        amount[negatives] *= -1
        country[countries] = NO_COUNTRY
        currency[currencies] = NO_CURRENCY
        counts += sizes
    amount[day == TRAINING_DAYS + SCORED_DAYS - 1] *= CENTS
    created = pa.array(int(first.timestamp()) * 1_000_000 + sales.seconds * 1_000_000).cast(pa.timestamp("us", "UTC"))
    table = pa.table(
        {
            "payment_id": pa.array(np.arange(1, len(amount) + 1)),
            "created_at": created,
            "updated_at": created,
            "customer_id": pa.array(sales.customer + 1),
            "amount": pa.array(amount, mask=missing),
            "currency": pa.array(currency.tolist(), pa.string()),
            "country": pa.array(country.tolist(), pa.string()),
            "items": pa.array(sales.items),
            "new_card": pa.array(sales.new_card),
        }
    )
    return table, counts.tolist()


def _write_log(
    rng: np.random.Generator, folder: Path, sales: _Sales, logins: Numbers, first: datetime, days: int
) -> tuple[int, int]:
    """Write visits and failed logins to a log, rotated twice, with the oldest file gzipped.

    Returns:
        The number of all lines, and of the broken ones.
    """
    folder.mkdir()
    lines, moments = _visit_lines(rng, sales, logins, first, days)
    broken = max(round(len(lines) * _BROKEN_SHARE), 6)
    for number, place in enumerate(rng.integers(0, len(lines), broken).tolist()):
        lines[place] = f"{lines[place]}\n{_BROKEN[number % len(_BROKEN)]}"
    cuts = np.searchsorted(moments, np.array([TRAINING_DAYS - 1, TRAINING_DAYS + 1]) * 86_400).tolist()
    names = ("access.log.2.gz", "access.log.1", "access.log")
    for name, (begin, end) in zip(names, pairwise([0, *cuts, len(lines)]), strict=True):
        content = "\n".join([*lines[begin:end], ""]).encode()
        path = folder / name
        path.write_bytes(gzip.compress(content, mtime=0) if name.endswith(".gz") else content)
        written = first.timestamp() + float(moments[end - 1])
        os.utime(path, (written, written))
    return len(lines) + broken, broken


def _visit_lines(
    rng: np.random.Generator, sales: _Sales, logins: Numbers, first: datetime, days: int
) -> tuple[list[str], Numbers]:
    """Return the lines in order of time, and their seconds since the first day. They begin a day before it."""
    count = len(sales.seconds)
    failed = np.repeat(np.arange(count), sales.failed_logins)
    before = sales.seconds[failed] - rng.integers(60, 6 * 3600, len(failed))
    moments = np.concatenate([rng.integers(-86_400, days * 86_400, count), before])
    who = np.concatenate([rng.integers(0, len(logins), count), sales.customer[failed]])
    users = np.where(np.concatenate([rng.random(count) < 0.2, np.zeros(len(failed), bool)]), "-", logins[who])
    typo = rng.random(count) < 0.01
    is_login = np.concatenate([typo, np.ones(len(failed), bool)])
    paths = _PATHS[rng.integers(0, len(_PATHS), len(moments))]
    numbers = rng.integers(100, 30_000, (2, len(moments)))
    agents = rng.integers(0, len(_AGENTS), len(moments))
    order = np.argsort(moments, kind="stable")
    lines = []
    for i in order.tolist():
        moment = (first + timedelta(seconds=int(moments[i]))).strftime("%d/%b/%Y:%H:%M:%S +0000")
        size, product = int(numbers[0, i]), int(numbers[1, i])
        request, status = ("POST /login", 401) if is_login[i] else (f"GET {paths[i].format(product)}", 200)
        host = f"10.{who[i] % 200}.{who[i] // 200 % 250}.{product % 250}"
        lines.append(f'{host} - {users[i]} [{moment}] "{request} HTTP/1.1" {status} {size} "-" "{_AGENTS[agents[i]]}"')
    return lines, moments[order]


def last_whole_day(now: datetime, delay: timedelta) -> datetime:
    """Return the end of the newest UTC day that is due."""
    return (now - delay).astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
