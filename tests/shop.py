"""A small shop to score: payments in any database, a model trained on them, and the spec that joins the two."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.models.registry import Registry
from penstock.models.training import train

START = datetime(2026, 1, 1, tzinfo=UTC)
COUNTRIES = ("DE", "FR", "IT", "PL")

SPEC = """
name: card-risk
interval: {column: created_at, grain: 1d, start: 2026-01-01T00:00:00Z, lookback: 3}
sources:
  payments:
    kind: sql
    connection: shop
    table: payments
    key: [payment_id]
    updated_column: updated_at
expectations:
  payments:
    - {type: expect_column_values_to_not_be_null, column: amount, severity: warning}
    - {type: expect_column_values_to_be_between, column: amount, min_value: 0, severity: warning}
    - {type: expect_table_row_count_to_be_between, min_value: 10}
  scores:
    - {type: expect_column_mean_to_be_between, column: score, min_value: 0.0001, max_value: 0.9999}
model: card-risk@champion
destination: {connection: warehouse, table: card_risk_scores, keep: [amount, country]}
partition_rows: 150
"""


def payments(days: int = 3, a_day: int = 250, seed: int = 1) -> pa.Table:
    """Return payments of some days, in the order of their keys; a few are dirty on the last day."""
    rng = np.random.default_rng(seed)
    count = days * a_day
    created = [START + timedelta(days=i // a_day, seconds=int(rng.integers(0, 86_400))) for i in range(count)]
    amount = np.round(rng.lognormal(3, 1, count), 2)
    return pa.table(
        {
            "payment_id": pa.array(range(1, count + 1), pa.int64()),
            "created_at": pa.array(created, pa.timestamp("us", "UTC")),
            "updated_at": pa.array(created, pa.timestamp("us", "UTC")),
            "amount": pa.array(amount, pa.float64()),
            "items": pa.array(rng.integers(1, 9, count), pa.int64()),
            "country": pa.array([COUNTRIES[i] for i in rng.integers(0, 4, count)], pa.string()),
            "first": pa.array(rng.random(count) < 0.3, pa.bool_()),
        }
    )


def write_payments(database: Database, rows: pa.Table) -> None:
    """Create the payments table and fill it, the way an application would: through SQLAlchemy."""
    table = payments_table()
    table.metadata.create_all(database.engine)
    plain = database.dialect != "postgresql"
    records = rows.to_pylist()
    if plain:
        for record in records:
            for column in ("created_at", "updated_at"):
                record[column] = record[column].replace(tzinfo=None)
    with database.writing() as connection:
        connection.execute(table.insert(), records)


def payments_table() -> sa.Table:
    return sa.Table(
        "payments",
        sa.MetaData(),
        sa.Column("payment_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("created_at", sa.DateTime(timezone=True)),
        sa.Column("updated_at", sa.DateTime(timezone=True)),
        sa.Column("amount", sa.Double),
        sa.Column("items", sa.BigInteger),
        sa.Column("country", sa.Text),
        sa.Column("first", sa.Boolean),
    )


def train_model(store: Path, name: str = "card-risk", alias: str = "champion", rounds: int = 5) -> Registry:
    """Train a few trees on other payments and register them under an alias."""
    rows = payments(days=2, a_day=400, seed=99)
    amount, items = rows["amount"].to_numpy(), rows["items"].to_numpy()
    label = ((amount > 25) ^ (items > 5)).astype(int)
    frame = rows.select(["amount", "items", "country", "first"]).append_column("label", pa.array(label))
    registry = Registry(store)
    train(frame, "label", rounds=rounds).register(registry, name, alias=alias)
    return registry


@dataclass(frozen=True)
class Place:
    """Where one test works: a folder, its databases, its spec."""

    folder: Path
    shop: Database
    warehouse: Database
    spec: Path
    registry: Registry
