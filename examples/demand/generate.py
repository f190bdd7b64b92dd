"""Write the retailer: a sales file a day, a promotions log, and a database of products, plans and outcomes.

`python -m penstock.examples.demand generate --rows 40000 --days 84 --seed 7 --dirty 0.003`
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import sqlalchemy as sa

from penstock import Project, SettingsError
from penstock.examples.database import UTC_TIME, append_rows
from penstock.examples.demand.planning import count_units, list_candidates, list_products, note_bought
from penstock.examples.demand.world import CATEGORIES, NOVELTY, STORES, WEEK, World, draw_world, product_id
from penstock.examples.pack import Made, Size

DEMAND = "demand"
RECOMMEND = "recommend"
SCORED_WEEKS = 2
WARM_UP = 4
"""Weeks at the start without plans, because plans look four weeks back."""
LEAST_ROWS, LEAST_DAYS = 300, 7 * (WARM_UP + SCORED_WEEKS + 1)
SALES, PROMOTIONS = Path("sales"), Path("promotions/promotions.jsonl")
SATURDAY = 5
COUNTED_WITHIN: timedelta = timedelta(days=len(STORES))
"""The stores count what they sold in a week, one store a day."""
NEW_PRODUCT, UNKNOWN_PRODUCT = "P9001", "P9002"

metadata = sa.MetaData()
products: sa.Table = sa.Table(
    "products",
    metadata,
    sa.Column("product_id", sa.Text, primary_key=True),
    sa.Column("category", sa.Text, nullable=False),
    sa.Column("listed_at", UTC_TIME, nullable=False),
)
listings: sa.Table = sa.Table(
    "listings",
    metadata,
    sa.Column("product_id", sa.Text, primary_key=True),
    sa.Column("store", sa.Text, primary_key=True),
    sa.Column("week", sa.Text, primary_key=True),
    sa.Column("price", sa.Double, nullable=False),
    sa.Column("planned_at", UTC_TIME, nullable=False),
)
candidates: sa.Table = sa.Table(
    "candidates",
    metadata,
    sa.Column("customer_id", sa.BigInteger, primary_key=True),
    sa.Column("product_id", sa.Text, primary_key=True),
    sa.Column("week", sa.Text, primary_key=True),
    sa.Column("made_at", UTC_TIME, nullable=False),
)
actuals: sa.Table = sa.Table(
    "actuals",
    metadata,
    sa.Column("product_id", sa.Text, primary_key=True),
    sa.Column("store", sa.Text, primary_key=True),
    sa.Column("week", sa.Text, primary_key=True),
    sa.Column("units", sa.BigInteger, nullable=False),
    sa.Column("known_at", UTC_TIME, nullable=False),
)
purchases: sa.Table = sa.Table(
    "purchases",
    metadata,
    sa.Column("customer_id", sa.BigInteger, primary_key=True),
    sa.Column("product_id", sa.Text, primary_key=True),
    sa.Column("week", sa.Text, primary_key=True),
    sa.Column("bought", sa.BigInteger, nullable=False),
    sa.Column("known_at", UTC_TIME, nullable=False),
)


def make_retailer(project: Project, size: Size) -> Made:
    """Fill files, log and database, without late plans and without the last week's outcomes.

    Raises:
        SettingsError: The size is too small to train on.
    """
    if size.rows < LEAST_ROWS or size.days < LEAST_DAYS:
        raise SettingsError(
            f"{size.rows:,} rows in {size.days} days are too few: plans look {WARM_UP} weeks back",
            f"Ask for at least {LEAST_ROWS:,} rows and {LEAST_DAYS} days, so that there are two weeks to train on.",
        )
    world = draw_world(size)
    weeks = planned_weeks(world)
    spoiled = {week: spoil_listings(world, size, week) for week in weeks[-SCORED_WEEKS:]}
    shop = project.connect("retailer")
    metadata.create_all(shop.engine)
    with shop.writing() as connection:
        append_rows(connection, products, _products_table(world, size))
        for week in weeks:
            listed, ranked = list_products(world.lines, week), list_candidates(world.lines, week)
            kept = spoiled[week].on_time if week in spoiled else listed
            append_rows(connection, listings, with_time(kept, "planned_at", week - timedelta(days=2)))
            append_rows(connection, candidates, with_time(ranked, "made_at", week - timedelta(hours=2)))
            if week < weeks[-1]:
                write_outcomes(connection, world.lines, week, listed, ranked)
    files = write_sales(dirty_lines(world, size), SALES)
    promotions = _write_promotions(world)
    last = weeks[-SCORED_WEEKS:]
    summary = {
        "sales": f"{len(world.lines):,} lines in {files} daily files, none of a Saturday",
        str(PROMOTIONS): f"{promotions} promotions, announced a week ahead",
        "retailer: listings": f"what {len(STORES)} stores offer in {len(weeks)} weeks",
        "retailer: candidates": "products that may be shown to each customer",
    }
    listed_rows = sum(len(spoiled[week].on_time) + len(spoiled[week].late) for week in last)
    ranked_rows = sum(len(list_candidates(world.lines, week)) for week in last)
    refused = sum(spoiled[week].refused for week in last)
    return Made(summary, {DEMAND: listed_rows, RECOMMEND: ranked_rows}, {DEMAND: refused, RECOMMEND: 0})


def planned_weeks(world: World) -> list[datetime]:
    """Return the Mondays with plans. The last one is the end of the written data."""
    return [world.begin + at * WEEK for at in range(WARM_UP, world.weeks + 1)]


@dataclass(frozen=True)
class SpoiledListings:
    """The plans of a week that is scored."""

    on_time: pd.DataFrame
    late: pd.DataFrame
    refused: int
    """Number of rows that must be quarantined."""


def spoil_listings(world: World, size: Size, week: datetime) -> SpoiledListings:
    """Plan a week with errors: wrong prices, a new category, an unknown product, and late rows."""
    listed = list_products(world.lines, week)
    newest = week == planned_weeks(world)[-1]
    late = listed.iloc[0:0] if newest else listed.iloc[::29]
    listed = listed.drop(index=late.index)
    if not size.dirty:
        return SpoiledListings(listed, late, 0)
    rng = np.random.default_rng([size.seed, 1, int(newest)])
    wrong = rng.permutation(len(listed))[: max(round(len(listed) * size.dirty), 1)]
    listed = listed.assign(price=np.where(np.isin(np.arange(len(listed)), wrong), -listed["price"], listed["price"]))
    more = {
        "product_id": [NEW_PRODUCT, UNKNOWN_PRODUCT],
        "store": STORES[:2],
        "price": 4.95,
        "week": f"{week:%Y-%m-%d}",
    }
    return SpoiledListings(pd.concat([listed, pd.DataFrame(more)]), late, len(wrong) + 2)


def dirty_lines(world: World, size: Size) -> pd.DataFrame:
    """Return the lines as tills write them: with cancellations, and if dirty, losses, duplicates and no customer."""
    rng = np.random.default_rng([size.seed, 2])
    lines = world.lines[world.lines["InvoiceDate"] < size.until]
    cancelled = lines[rng.random(len(lines)) < 0.02]
    back = cancelled.assign(
        InvoiceNo="C" + cancelled["InvoiceNo"],
        Quantity=-cancelled["Quantity"],
        InvoiceDate=cancelled["InvoiceDate"] + pd.Timedelta(hours=30),
    )
    back = back[(back["InvoiceDate"] < size.until) & (back["InvoiceDate"].dt.day_of_week != SATURDAY)]
    lost = lines[rng.random(len(lines)) < size.dirty / 2]
    lost = lost.assign(InvoiceNo="9" + lost["InvoiceNo"], Quantity=-lost["Quantity"], UnitPrice=0.0)
    twice = lines[rng.random(len(lines)) < size.dirty]
    written = pd.concat([lines, back, lost, twice]).sort_values("InvoiceDate", kind="stable", ignore_index=True)
    unknown = pd.Series(rng.random(len(written)) < (0.2 if size.dirty else 0))
    changed: pd.DataFrame = written.assign(CustomerID=written["CustomerID"].astype("Int64").mask(unknown))
    return changed


def write_sales(lines: pd.DataFrame, folder: Path) -> int:
    """Write one file for each day with lines. Return the number of files."""
    folder.mkdir(parents=True, exist_ok=True)
    days = lines.groupby(lines["InvoiceDate"].dt.strftime("%Y-%m-%d"))
    for day, sold in days:
        sold.to_csv(folder / f"{day}.csv", index=False, date_format="%Y-%m-%d %H:%M:%S")
    return len(days)


def with_time(rows: pd.DataFrame, column: str, moment: datetime) -> pa.Table:
    """Return plans as a table, with the time at which they were made."""
    return pa.Table.from_pandas(rows.assign(**{column: pd.Timestamp(moment)}), preserve_index=False)


def write_outcomes(
    connection: sa.Connection, lines: pd.DataFrame, week: datetime, listed: pd.DataFrame, ranked: pd.DataFrame
) -> int:
    """Write a week's outcomes for what was listed and ranked. Return the number of rows."""
    sold, bought = count_units(listed, lines, week), note_bought(ranked, lines, week)
    over = pd.Timestamp(week + WEEK)
    counted = over + pd.to_timedelta(sold["store"].map(STORES.index) + 1, unit="D")
    append_rows(connection, actuals, pa.Table.from_pandas(sold.assign(known_at=counted), preserve_index=False))
    append_rows(connection, purchases, with_time(bought, "known_at", week + WEEK))
    return len(sold) + len(bought)


def _products_table(world: World, size: Size) -> pa.Table:
    names = np.array(CATEGORIES, object)[world.category].tolist()
    ids, listed = product_id(np.arange(len(names))), [world.begin] * len(names)
    if size.dirty:
        ids, names, listed = [*ids, NEW_PRODUCT], [*names, NOVELTY], [*listed, size.until - 2 * WEEK]
    return pa.table({"product_id": ids, "category": names, "listed_at": listed})


def _write_promotions(world: World) -> int:
    """Write each week's promotions on the Monday before it, in the order of time."""
    PROMOTIONS.parent.mkdir(parents=True, exist_ok=True)
    found = sorted(zip(*(axis.tolist() for axis in np.nonzero(world.discount)), strict=True), key=lambda at: at[::-1])
    with PROMOTIONS.open("w", encoding="utf-8") as log:
        for product, week in found:
            starts = (world.begin + week * WEEK).astimezone(UTC)
            line = {
                "time": f"{starts - WEEK + timedelta(hours=9):%Y-%m-%dT%H:%M:%SZ}",
                "product_id": product_id(np.array([product]))[0],
                "discount": float(world.discount[product, week]),
                "starts": f"{starts:%Y-%m-%dT%H:%M:%SZ}",
                "ends": f"{starts + WEEK:%Y-%m-%dT%H:%M:%SZ}",
            }
            log.write(json.dumps(line) + "\n")
    return len(found)
