"""Draw the retailer's data: who buys what, where and when.

Customers prefer some categories, buy the same products again, and react to promotions. Products go in and out of
fashion. Weekly sales and a customer's next purchases follow from that.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from penstock.examples.drawing import Numbers
from penstock.examples.pack import Size

WEEK = timedelta(days=7)
STORES = ("United Kingdom", "Germany", "France", "Spain")
_STORE_SHARES = (0.55, 0.2, 0.15, 0.1)
CATEGORIES = ("candles", "kitchen", "toys", "bags", "paper", "christmas")
NOVELTY = "garden"
"""A category that first appears in the scored weeks: no model was trained on it."""
PRODUCTS_A_CATEGORY = 14
LINES_A_CUSTOMER = 30
_WEEKDAYS = (0.17, 0.18, 0.17, 0.19, 0.17, 0.0, 0.12)
"""Shares of the weekdays. No store sells on Saturdays, so that day has no file."""


@dataclass(frozen=True)
class World:
    begin: datetime
    weeks: int
    """Number of weeks that are written. One more is drawn, for the outcomes of the forecasts."""
    price: Numbers
    category: Numbers
    """Of each product, as a position in `CATEGORIES`."""
    discount: Numbers
    """By product and week. 0 without a promotion."""
    lines: pd.DataFrame
    """In the order of time, with the tills' columns."""


def draw_world(size: Size) -> World:
    """Draw everything. The same size gives the same data."""
    rng = np.random.default_rng(size.seed)
    weeks = size.days // 7
    products = len(CATEGORIES) * PRODUCTS_A_CATEGORY
    category = np.repeat(np.arange(len(CATEGORIES)), PRODUCTS_A_CATEGORY)
    price = np.round(np.exp(rng.normal(1.1, 0.7, products)), 2)
    promoted = rng.random((products, weeks + 1)) < 0.06
    discount = np.where(promoted, rng.choice([0.1, 0.2, 0.3], promoted.shape), 0.0)
    fashion = rng.normal(0, 1, (products, 1)) + np.cumsum(rng.normal(0, 0.25, (products, weeks + 1)), axis=1)
    wanted = np.exp(fashion + 5 * discount)
    begin = size.until - weeks * WEEK
    lines = _draw_lines(rng, size.rows * (weeks + 1) // weeks, begin, category, price, wanted)
    return World(begin, weeks, price, category, discount, lines)


def product_id(places: Numbers) -> list[str]:
    return [f"P{at + 1:04d}" for at in places.tolist()]


def _draw_lines(
    rng: np.random.Generator, count: int, begin: datetime, category: Numbers, price: Numbers, wanted: Numbers
) -> pd.DataFrame:
    weeks = wanted.shape[1]
    customers = max(count // LINES_A_CUSTOMER, 30)
    taste = rng.dirichlet(np.full(len(CATEGORIES), 0.35), customers)
    home = rng.choice(len(STORES), customers, p=_STORE_SHARES)
    busy = rng.gamma(1.2, 1.0, customers)
    usual = np.stack([_choose(rng, wanted[:, 0] * (category == c), customers) for c in range(len(CATEGORIES))], axis=1)
    week = np.sort(rng.integers(0, weeks, count))
    customer = rng.choice(customers, count, p=busy / busy.sum())
    liked = (rng.random((count, 1)) > np.cumsum(taste, axis=1)[customer]).sum(axis=1).clip(max=len(CATEGORIES) - 1)
    product = np.empty(count, np.int64)
    for at in range(weeks):
        for c in range(len(CATEGORIES)):
            here = np.flatnonzero((week == at) & (liked == c))
            product[here] = _choose(rng, wanted[:, at] * (category == c), len(here))
    loyal = rng.random(count) < 0.35
    product = np.where(loyal, usual[customer, liked], product)
    day = week * 7 + rng.choice(7, count, p=_WEEKDAYS)
    # All lines of a customer on a day are one invoice, at one time.
    visit, invoice = np.unique(day * customers + customer, return_inverse=True)
    clock = rng.integers(8 * 3600, 18 * 3600, len(visit))
    second = day * 86_400 + clock[invoice]
    lines = pd.DataFrame(
        {
            "InvoiceNo": (500_000 + invoice).astype(str),
            "StockCode": product_id(product),
            "Quantity": 1 + rng.poisson(1.5, count),
            "InvoiceDate": pd.Timestamp(begin) + pd.to_timedelta(second, unit="s"),
            "UnitPrice": price[product],
            "CustomerID": 10_000 + customer,
            "Country": np.array(STORES)[home[customer]],
        }
    )
    once = lines.drop_duplicates(["InvoiceNo", "StockCode"])
    return once.sort_values("InvoiceDate", kind="stable", ignore_index=True)


def _choose(rng: np.random.Generator, weight: Numbers, count: int) -> Numbers:
    return np.asarray(rng.choice(len(weight), count, p=weight / weight.sum()))
