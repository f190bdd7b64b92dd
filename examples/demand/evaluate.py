"""Compute the figures of the README: `python -m penstock.examples.demand evaluate --real online_retail_by_day`.

The real data are thirty daily files of a British wholesaler around Christmas (UCI's Online Retail), as `.csv.gz` in one
folder. A country stands for a store, the first two digits of a stock number for a category; there are no promotions.
The last file is of a Friday, so real weeks begin on Saturdays. The newest week is complete and is the holdout.
"""

import gzip
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pyarrow as pa

from penstock import Project
from penstock.examples.database import append_rows
from penstock.examples.demand.generate import (
    PROMOTIONS,
    SALES,
    candidates,
    listings,
    metadata,
    products,
    with_time,
    write_outcomes,
)
from penstock.examples.demand.pack import PACK
from penstock.examples.demand.planning import list_candidates, list_products
from penstock.examples.demand.train import ORDER, UNITS, Question, join_outcomes, learned_rows
from penstock.examples.demand.world import WEEK
from penstock.examples.judging import Judged, Rule, compare, hold_out, to_numbers
from penstock.examples.pack import Size
from penstock.examples.project import SHIPPED, inside, write_settings

REAL_WEEKS = [datetime(2010, 12, 11, tzinfo=UTC), datetime(2010, 12, 18, tzinfo=UTC), datetime(2011, 1, 1, tzinfo=UTC)]
"""The weeks to train on. In the last but one nothing was sold: the company was closed."""
REAL_HELD = datetime(2011, 1, 8, tzinfo=UTC)
RULES: dict[str, dict[str, Rule]] = {
    UNITS.pipeline: {
        "last week's sales": lambda rows: to_numbers(rows["units_1w"]),
        "a quarter of the last four weeks": lambda rows: to_numbers(rows["units_4w"]) / 4,
    },
    ORDER.pipeline: {
        "popularity: invoices in four weeks": lambda rows: to_numbers(rows["sold_4w"]),
        "what the customer bought, then popularity": lambda rows: (
            to_numbers(rows["bought_4w"]) + to_numbers(rows["sold_4w"]) / 1e6
        ),
    },
}
METRICS = {UNITS.pipeline: ("mae", "rmse"), ORDER.pipeline: ("ndcg@5",)}


def judge_generated(project: Project, size: Size) -> dict[str, list[Judged]]:
    """Measure on the newest two weeks with a known outcome."""
    tables = {}
    for asked, what in ((UNITS, "products in stores"), (ORDER, "candidates of customers who bought one")):
        frame = learned_rows(project, size, asked)
        tables[f"{frame.num_rows:,} generated {what}: `{asked.pipeline}`"] = judge_weeks(frame, asked, 2)
    return tables


def judge_real(path: Path) -> dict[str, list[Judged]]:
    """Measure on the newest week, by the same specs, over files, plans and outcomes made from the real data."""
    lines, ranges = read_lines(path)
    tables = {}
    with TemporaryDirectory() as folder:
        write_settings(Path(folder), [PACK])
        with inside(Path(folder)) as project:
            write_real(project, path.absolute(), lines, ranges)
            for asked, what in ((UNITS, "products in countries"), (ORDER, "candidates of customers who bought one")):
                frame = join_outcomes(project, asked, [week - WEEK for week in (*REAL_WEEKS, REAL_HELD)])
                tables[f"{frame.num_rows:,} {what} (Online Retail): `{asked.pipeline}`"] = judge_weeks(frame, asked, 1)
            project.close()
    return tables


def judge_weeks(frame: pa.Table, asked: Question, weeks: int) -> list[Judged]:
    """Hold out whole weeks, so that the candidates of one customer and week stay together."""
    moments = frame[asked.time].to_pandas()
    share = float((moments >= sorted(moments.unique())[-weeks]).mean())
    holdout = hold_out(frame, asked.label, asked.time, share=share, **asked.how(frame))
    return compare(holdout, asked.label, RULES[asked.pipeline], METRICS[asked.pipeline], asked.group)


def read_lines(path: Path) -> tuple[pd.DataFrame, dict[str, str]]:
    """Read the real files, and the category of each product."""
    types = {"InvoiceNo": "string", "StockCode": "string"}
    lines = pd.concat([pd.read_csv(file, dtype=types) for file in sorted(path.glob("*.csv.gz"))], ignore_index=True)
    lines["InvoiceDate"] = pd.to_datetime(lines["InvoiceDate"], utc=True)
    lines["CustomerID"] = lines["CustomerID"].astype("Int64")
    return lines, {code: code[:2] for code in sorted(lines["StockCode"].unique())}


def write_real(project: Project, path: Path, lines: pd.DataFrame, ranges: dict[str, str]) -> None:
    """Copy the files to where the specs read them, and write the plans and outcomes of a retailer's jobs."""
    SALES.mkdir()
    for file in path.glob("*.csv.gz"):
        (SALES / file.name.removesuffix(".gz")).write_bytes(gzip.decompress(file.read_bytes()))
    PROMOTIONS.parent.mkdir()
    PROMOTIONS.touch()
    Path("pipelines").mkdir()
    for asked in (UNITS, ORDER):
        text = (SHIPPED / f"{asked.pipeline}.yaml").read_text(encoding="utf-8")
        Path("pipelines", f"{asked.pipeline}.yaml").write_text(text, encoding="utf-8")
    retailer = project.connect("retailer")
    metadata.create_all(retailer.engine)
    known: dict[str, list[Any]] = {
        "product_id": list(ranges),
        "category": list(ranges.values()),
        "listed_at": [REAL_WEEKS[0]] * len(ranges),
    }
    with retailer.writing() as connection:
        append_rows(connection, products, pa.table(known))
        for week in (*REAL_WEEKS, REAL_HELD):
            listed, ranked = list_products(lines, week), list_candidates(lines, week)
            append_rows(connection, listings, with_time(listed, "planned_at", week - WEEK / 7))
            append_rows(connection, candidates, with_time(ranked, "made_at", week - WEEK / 7))
            write_outcomes(connection, lines, week, listed, ranked)
