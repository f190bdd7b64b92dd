"""A retailer's own jobs over its sales: what to forecast, what to rank, and the outcomes of both.

They take lines with the tills' columns, generated or real (`evaluate`). None reads sales from after its own time.
"""

from datetime import datetime

import pandas as pd

from penstock.examples.demand.world import WEEK

LOOK_BACK = 4 * WEEK
CANDIDATES = 15
"""Products to rank for one customer."""
OWN = 8
"""Most of these that the customer has bought before."""


def sold_between(lines: pd.DataFrame, start: datetime, end: datetime) -> pd.DataFrame:
    """Return the sales of a time span, without cancellations, free items and duplicate lines."""
    when = (lines["InvoiceDate"] >= start) & (lines["InvoiceDate"] < end)
    sale = ~lines["InvoiceNo"].str.startswith("C") & (lines["Quantity"] > 0) & (lines["UnitPrice"] > 0)
    return lines[when & sale].drop_duplicates()


def list_products(lines: pd.DataFrame, week: datetime) -> pd.DataFrame:
    """Return what each store offers in a week: what it sold in the four weeks before, at the usual price."""
    sold = sold_between(lines, week - LOOK_BACK, week)
    listed = sold.groupby(["StockCode", "Country"], sort=True)["UnitPrice"].median().round(2).reset_index()
    listed.columns = pd.Index(["product_id", "store", "price"])
    return listed.assign(week=f"{week:%Y-%m-%d}")


def list_candidates(lines: pd.DataFrame, week: datetime) -> pd.DataFrame:
    """Return candidates for each customer of the last four weeks: own purchases first, then bestsellers."""
    sold = sold_between(lines, week - LOOK_BACK, week).dropna(subset="CustomerID")
    best = sold["StockCode"].value_counts(sort=True).sort_index(kind="stable").nlargest(CANDIDATES).index
    own = sold.groupby(["CustomerID", "StockCode"], sort=True).size().rename("times").reset_index()
    own = (
        own.sort_values(["CustomerID", "times"], ascending=[True, False], kind="stable").groupby("CustomerID").head(OWN)
    )
    everybody = pd.MultiIndex.from_product([sorted(sold["CustomerID"].unique()), best]).to_frame(index=False)
    everybody.columns = pd.Index(["CustomerID", "StockCode"])
    both = pd.concat([own[["CustomerID", "StockCode"]], everybody]).drop_duplicates()
    chosen = both.sort_values("CustomerID", kind="stable").groupby("CustomerID").head(CANDIDATES)
    return pd.DataFrame(
        {
            "customer_id": chosen["CustomerID"].astype("int64").to_numpy(),
            "product_id": chosen["StockCode"].to_numpy(),
            "week": f"{week:%Y-%m-%d}",
        }
    )


def count_units(listed: pd.DataFrame, lines: pd.DataFrame, week: datetime) -> pd.DataFrame:
    """Return the units of each listed product that were sold in the week, or 0."""
    units = sold_between(lines, week, week + WEEK).groupby(["StockCode", "Country"])["Quantity"].sum()
    found = units.reindex(pd.MultiIndex.from_frame(listed[["product_id", "store"]]), fill_value=0)
    return listed[["product_id", "store", "week"]].assign(units=found.to_numpy())


def note_bought(candidates: pd.DataFrame, lines: pd.DataFrame, week: datetime) -> pd.DataFrame:
    """Return whether the customer bought each candidate in the week."""
    sold = sold_between(lines, week, week + WEEK).dropna(subset="CustomerID")
    bought = pd.MultiIndex.from_arrays([sold["CustomerID"].astype("int64"), sold["StockCode"]])
    pairs = pd.MultiIndex.from_frame(candidates[["customer_id", "product_id"]])
    return candidates.assign(bought=pairs.isin(bought).astype("int64"))
