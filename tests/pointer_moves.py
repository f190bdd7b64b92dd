"""What moves the pointers of a changing place, for those who follow them."""

import random

from penstock.ledger.reader import RunRecord, list_runs
from penstock.ledger.writer import withdraw
from penstock.upkeep.live_changes import publish_with_rows
from tests.changing_place import ChangingPlace


def live_runs(place: ChangingPlace) -> list[RunRecord]:
    """Return the published runs, the oldest interval first."""
    found = [run for run in list_runs(place.warehouse, limit=1000) if run.state == "published"]
    return sorted(found, key=lambda run: run.interval_key)


def move_at_random(place: ChangingPlace, chance: random.Random) -> None:
    """Publish or restate an interval, withdraw a run, or let one become live again."""
    ended = [run for run in list_runs(place.warehouse, limit=1000) if run.state in ("superseded", "withdrawn")]
    move = chance.choice(["publish", "restate", "restate", "withdraw", "again"])
    if move == "publish":
        place.run(chance.randint(3, 6))
    elif move == "restate":
        day, number = chance.randint(1, 3), chance.randint(1, 4)
        place.change(f"update payments set amount = amount + 7 where payment_id = {day * 10 + number}")
        place.run(3, "restate", f"2026-01-0{day}", f"2026-01-0{day + 1}")
    elif move == "withdraw" and live_runs(place):
        withdraw(place.warehouse, chance.choice(live_runs(place)).run_id)
    elif move == "again" and ended:
        publish_with_rows(place.warehouse, [chance.choice(ended).run_id], "Ada", "better")
