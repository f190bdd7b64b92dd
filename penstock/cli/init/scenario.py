"""The made-up scenarios of `penstock init`: rows of a month and a half, some of them cases.

Rows go on for a month after today, so that the schedule finds some every night.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import sqlalchemy as sa

from penstock.database.bulk import bulk_transaction
from penstock.database.connections import Database
from penstock.database.types import UtcDateTime

Kind = Literal["sql", "log", "files"]
Numbers = npt.NDArray[Any]

TRAINING_DAYS, SCORED_DAYS, FUTURE_DAYS = 14, 3, 30
DAYS = TRAINING_DAYS + SCORED_DAYS + FUTURE_DAYS
ROWS_A_DAY = 300
SEED = 7
COUNTRIES = ("DE", "FR", "IT", "ES", "PL", "SE")
_SECONDS = 86_400


@dataclass(frozen=True)
class Scenario:
    """One made-up scenario: its pipeline, its rows, and the risk that a row is a case."""

    pipeline: str
    settings: str
    """Lines of `.env` for its connections."""
    made: str
    """The file or folder with the rows, as shown to people."""
    write_rows: Callable[[Callable[[str], Database], Sequence[datetime]], None]
    """Write the rows of all days into the working folder, which is the project's."""
    judge_risk: Callable[[pa.Table], Numbers]
    """Return the log-odds that a row of the features is a case."""
    carried: tuple[str, ...] = ()
    """Columns of the features query that the model is not trained on."""


def open_scenario(kind: Kind) -> Scenario:
    """Return the scenario for a kind of source."""
    return SCENARIOS[kind]


def draw_labels(scenario: Scenario, features: pa.Table) -> pa.Int64Array:
    """Return 1 for each row that is a case, otherwise 0, drawn by their risk."""
    risk = 1 / (1 + np.exp(-scenario.judge_risk(features)))
    return pa.array((np.random.default_rng(SEED).random(features.num_rows) < risk).astype(int).tolist(), pa.int64())


def _draw_moments(rng: np.random.Generator, days: Sequence[datetime]) -> list[datetime]:
    """Return the times of all rows, in order."""
    moments = [np.sort(rng.integers(0, _SECONDS, ROWS_A_DAY)).tolist() for _ in days]
    return [day + timedelta(seconds=s) for day, seconds in zip(days, moments, strict=True) for s in seconds]


def _write_orders(connect: Callable[[str], Database], days: Sequence[datetime]) -> None:
    rng = np.random.default_rng(SEED)
    moments = _draw_moments(rng, days)
    count = len(moments)
    times = pa.array(moments, pa.timestamp("us", "UTC"))
    orders = sa.Table(
        "orders",
        sa.MetaData(),
        sa.Column("order_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("created_at", UtcDateTime, nullable=False, index=True),
        sa.Column("updated_at", UtcDateTime, nullable=False),
        sa.Column("amount", sa.Double),
        sa.Column("items", sa.BigInteger, nullable=False),
        sa.Column("country", sa.Text, nullable=False),
        sa.Column("express", sa.Boolean, nullable=False),
    )
    rows = {
        "order_id": pa.array(np.arange(1, count + 1)),
        "created_at": times,
        "updated_at": times,
        "amount": pa.array(np.round(rng.lognormal(3.8, 0.7, count), 2)),
        "items": pa.array(1 + rng.poisson(1.5, count)),
        "country": pa.array(rng.choice(COUNTRIES, count).tolist()),
        "express": pa.array(rng.random(count) < 0.2),
    }
    database = connect("shop")
    orders.metadata.create_all(database.engine)
    with bulk_transaction(database) as transaction:
        transaction.append(orders, pa.table(rows))


def _judge_orders(features: pa.Table) -> Numbers:
    amount, items, express = (_numbers(features, name) for name in ("amount", "items", "express"))
    risk: Numbers = -2.6 + 0.9 * (np.log(amount) - 3.8) + 0.35 * items + 0.8 * express
    return risk


def _write_signins(connect: Callable[[str], Database], days: Sequence[datetime]) -> None:
    del connect
    rng = np.random.default_rng(SEED)
    moments = _draw_moments(rng, days)
    count = len(moments)
    users, countries = rng.integers(1, 400, count).tolist(), rng.choice(COUNTRIES, count).tolist()
    device_days = rng.exponential(90, count).astype(int).tolist()
    failed = np.where(rng.random(count) < 0.15, 1 + rng.poisson(3, count), 0).tolist()
    lines = [
        json.dumps(
            {
                "time": f"{moment:%Y-%m-%dT%H:%M:%SZ}",
                "user": f"user{user:03d}",
                "country": country,
                "device_days": age,
                "failed_before": tries,
            }
        )
        for moment, user, country, age, tries in zip(moments, users, countries, device_days, failed, strict=True)
    ]
    Path("logs").mkdir()
    Path("logs", "signins.log").write_text("\n".join([*lines, ""]), encoding="utf-8")


def _judge_signins(features: pa.Table) -> Numbers:
    age, tries, hour = (_numbers(features, name) for name in ("device_days", "failed_before", "hour"))
    risk: Numbers = -4.0 + 0.9 * tries + 1.8 * (age < 7) + 1.0 * (hour < 6)
    return risk


def _write_readings(connect: Callable[[str], Database], days: Sequence[datetime]) -> None:
    del connect
    rng = np.random.default_rng(SEED)
    moments = _draw_moments(rng, days)
    count = len(moments)
    table = pa.table(
        {
            "reading_id": pa.array(np.arange(1, count + 1)),
            "read_at": pa.array([f"{moment:%Y-%m-%dT%H:%M:%SZ}" for moment in moments]),
            "pump": pa.array([f"P{number:02d}" for number in rng.integers(1, 41, count).tolist()]),
            "temperature": pa.array(np.round(rng.normal(55, 8, count), 1)),
            "vibration": pa.array(np.round(rng.gamma(4, 0.7, count), 2)),
            "pressure": pa.array(np.round(rng.normal(6, 0.5, count), 2)),
            "hours_since_service": pa.array(np.round(rng.exponential(500, count), 1)),
        }
    )
    Path("lake", "readings").mkdir(parents=True)
    for number, day in enumerate(days):
        rows = table.slice(number * ROWS_A_DAY, ROWS_A_DAY)
        pyarrow.csv.write_csv(rows, Path("lake", "readings", f"{day:%Y-%m-%d}.csv"))


def _judge_readings(features: pa.Table) -> Numbers:
    heat, vibration, hours = (_numbers(features, c) for c in ("temperature", "vibration", "hours_since_service"))
    risk: Numbers = -5.5 + 0.06 * (heat - 55) + 0.7 * vibration + 0.002 * hours
    return risk


def _numbers(features: pa.Table, column: str) -> Numbers:
    return np.asarray(features[column].to_numpy(), dtype=float)


SCENARIOS: dict[Kind, Scenario] = {
    "sql": Scenario(
        pipeline="order-returns",
        settings="\n# The database that the spec calls `shop`: a SQLite file with a made-up table. Yours may be:\n"
        "# PENSTOCK_CONNECTIONS__SHOP=postgresql+psycopg://user:password@host/database\n"
        "PENSTOCK_CONNECTIONS__SHOP=sqlite:///shop.db\n",
        made="shop.db",
        write_rows=_write_orders,
        judge_risk=_judge_orders,
    ),
    "log": Scenario(
        pipeline="signin-risk",
        settings="",
        made="logs/signins.log",
        write_rows=_write_signins,
        judge_risk=_judge_signins,
        carried=("time", "user"),
    ),
    "files": Scenario(
        pipeline="pump-failures",
        settings="",
        made="lake/readings",
        write_rows=_write_readings,
        judge_risk=_judge_readings,
        carried=("pump",),
    ),
}
