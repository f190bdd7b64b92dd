"""Incidents at the retailer, and outcomes that arrive late."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pandas as pd
import sqlalchemy as sa

from penstock import Project
from penstock.examples.database import append_rows
from penstock.examples.demand.generate import (
    COUNTED_WITHIN,
    DEMAND,
    RECOMMEND,
    SALES,
    SCORED_WEEKS,
    actuals,
    candidates,
    listings,
    planned_weeks,
    spoil_listings,
    with_time,
    write_outcomes,
)
from penstock.examples.demand.planning import list_candidates, list_products
from penstock.examples.demand.world import WEEK, draw_world
from penstock.examples.pack import FollowUp, Incident, Size

HELD_BACK = Path("sales-not-sent")
DOZEN = 12


def rename_quantity(project: Project, size: Size) -> None:
    _rewrite(size, 3, lambda lines: lines.rename(columns={"Quantity": "Qty"}))


def rename_quantity_back(project: Project, size: Size) -> None:
    _rewrite(size, 3, lambda lines: lines.rename(columns={"Qty": "Quantity"}))


def hold_files_back(project: Project, size: Size) -> None:
    HELD_BACK.mkdir()
    for file in _newest_files(size, 6):
        file.rename(HELD_BACK / file.name)


def send_files(project: Project, size: Size) -> None:
    for file in HELD_BACK.iterdir():
        file.rename(SALES / file.name)
    HELD_BACK.rmdir()


def count_pieces(project: Project, size: Size) -> None:
    _rewrite(size, 7, lambda lines: lines.assign(Quantity=lines["Quantity"] * DOZEN))


def count_dozens_again(project: Project, size: Size) -> None:
    _rewrite(size, 7, lambda lines: lines.assign(Quantity=lines["Quantity"] // DOZEN))


def lose_candidates(project: Project, size: Size) -> None:
    newest = candidates.c.week == f"{size.until:%Y-%m-%d}"
    with project.connect("retailer").writing() as connection:
        few = connection.execute(sa.select(candidates.c.customer_id).where(newest).distinct().limit(3)).scalars().all()
        connection.execute(sa.delete(candidates).where(newest, candidates.c.customer_id.not_in(few)))


def find_candidates_again(project: Project, size: Size) -> None:
    world = draw_world(size)
    week = planned_weeks(world)[-1]
    with project.connect("retailer").writing() as connection:
        connection.execute(sa.delete(candidates).where(candidates.c.week == f"{week:%Y-%m-%d}"))
        found = list_candidates(world.lines, week)
        append_rows(connection, candidates, with_time(found, "made_at", week - timedelta(hours=2)))


def list_late(project: Project, size: Size) -> None:
    world = draw_world(size)
    with project.connect("retailer").writing() as connection:
        for week in planned_weeks(world)[-SCORED_WEEKS:]:
            late = spoil_listings(world, size, week).late
            append_rows(connection, listings, with_time(late, "planned_at", week - timedelta(days=1)))


def leave_as_it_is(project: Project, size: Size) -> None:
    """Do nothing: there is nothing to repair."""


def deliver_outcomes(project: Project, size: Size) -> int:
    """Write the outcomes of the forecast week. Return the number of rows."""
    world = draw_world(size)
    week = planned_weeks(world)[-1]
    written = sa.select(actuals.c.week).where(actuals.c.week == f"{week:%Y-%m-%d}").limit(1)
    if project.query("retailer", written).num_rows:
        return 0
    with project.connect("retailer").writing() as connection:
        listed, ranked = list_products(world.lines, week), list_candidates(world.lines, week)
        return write_outcomes(connection, world.lines, week, listed, ranked)


def _newest_files(size: Size, days: int) -> list[Path]:
    """Return the files of the last days. A Saturday has none."""
    names = (SALES / f"{size.until - timedelta(days=back):%Y-%m-%d}.csv" for back in range(1, days + 1))
    return [file for file in names if file.exists()]


def _rewrite(size: Size, days: int, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    for file in _newest_files(size, days):
        lines = pd.read_csv(file, dtype={"CustomerID": "Int64"})
        change(lines).to_csv(file, index=False)


INCIDENTS: tuple[Incident, ...] = (
    Incident(
        "renamed",
        "schema",
        DEMAND,
        "For three days, a new release of the tills has written `Qty` instead of `Quantity`.",
        rename_quantity,
        rename_quantity_back,
        "The release is rolled back, and the files of these days are sent again.",
        "halted",
        "Quantity column_values_to_not_be_null",
    ),
    Incident(
        "not-sent",
        "upstream",
        DEMAND,
        "The transfer of the tills' files has stopped: all files of the week except one are missing.",
        hold_files_back,
        send_files,
        "The transfer is started again.",
        "halted",
        "store_level column_mean_to_be_between",
    ),
    Incident(
        "dozens",
        "drift",
        DEMAND,
        "The tills count pieces instead of dozens.",
        count_pieces,
        count_dozens_again,
        "The tills are corrected, and send the week again.",
        "halted",
        "store_level column_mean_to_be_between",
    ),
    Incident(
        "no-candidates",
        "upstream",
        RECOMMEND,
        "The retrieval job fails after the first customers.",
        lose_candidates,
        find_candidates_again,
        "The job is run again.",
        "halted",
        "table_row_count_to_be_between",
    ),
    Incident(
        "late",
        "late",
        DEMAND,
        "Planners list more products for a week that was forecast before.",
        list_late,
        leave_as_it_is,
        "Nothing: the week is forecast again.",
        "restated",
    ),
)
LABELS_AFTER: tuple[timedelta, ...] = (timedelta(days=2), WEEK + COUNTED_WITHIN + timedelta(days=1))
FOLLOW_UPS: tuple[FollowUp, ...] = (
    FollowUp(
        DEMAND,
        "The challenger reads the log of promotions, which the champion does not. The counted sales judge both.",
        "mae",
        "promoted",
        "reads promotions, and is closer to what was sold",
    ),
)
