"""`penstock publish`: ended runs become live again, in one transaction and without scoring, on real databases."""

import json
import threading
import time

import pytest
import sqlalchemy as sa

from penstock.errors import PublishRefused, RunNotFound, TransientError, WrongState
from penstock.ledger.pointer_moves import moves_of, plan_move, publish_again
from penstock.ledger.reader import RunRecord, find_run, list_runs
from penstock.ledger.tables import runs
from penstock.ledger.writer import withdraw
from penstock.run_types import interval_label
from penstock.settings import load_settings
from penstock.upkeep.live_changes import compare_live, publish_with_rows
from tests.changing_place import ChangingPlace, end_of, keys
from tests.conftest import DIALECTS

pytestmark = pytest.mark.parametrize("changing_place", DIALECTS, indirect=True)


@pytest.fixture
def place(changing_place: ChangingPlace) -> ChangingPlace:
    """A pipeline that has scored three days with version 1 and then again with version 2."""
    folder = load_settings().pipelines
    folder.mkdir(parents=True)
    place = changing_place
    place.spec = place.spec.rename(folder / "card-risk.yaml")
    place.edit("card-risk@champion", "card-risk@2")
    place.run(3, "restate", "2026-01-01", "2026-01-04")
    return place


def scored_by(place: ChangingPlace, version: str) -> list[RunRecord]:
    found = [run for run in list_runs(place.warehouse, limit=1000) if run.model_version == version]
    return sorted(found, key=lambda run: run.interval_key)


def seen(place: ChangingPlace) -> dict[str, str]:
    """Return by interval the version whose scores readers see."""
    live = [run for run in list_runs(place.warehouse, limit=1000) if run.state == "published" and run.variant == "live"]
    return {interval_label(run.interval): run.model_version for run in live}


def test_what_a_version_scored_goes_live_again(place: ChangingPlace) -> None:
    before = place.view("score", "model_version")

    code, text = place.command(
        *("publish", "--pipeline", "card-risk", "--scored-by", "card-risk/1", "--start", "2026-01-02"),
        *("--reason", "version 2 sees too little", "--by", "Ada", "--yes"),
    )

    assert code == 0, text
    assert "published: 2 runs in `card_risk_scores`, in place of 2 runs" in text
    assert place.view() == keys(1, 2, 3)
    assert place.seen_scores() == place.scores(1, version="2") | place.scores(2, 3, version="1")
    assert place.plan(3) == []
    place.verify()
    newer = scored_by(place, "2")[1]
    assert (newer.state, newer.replaced_by_run_id) == ("superseded", scored_by(place, "1")[1].run_id)

    code, text = place.command(
        "publish", "--pipeline", "card-risk", "--scored-by", "card-risk/2", "--reason", "back", "--yes"
    )
    assert code == 0, text
    assert [row[:3] for row in place.view("score", "model_version")] == before
    assert all(run.replaced_by_run_id is None for run in scored_by(place, "2"))
    place.verify()


def test_a_dry_run_counts_what_readers_would_see_change(place: ChangingPlace) -> None:
    arguments = ("publish", "--pipeline", "card-risk", "--scored-by", "card-risk/1", "--dry-run")
    code, text = place.command(*arguments, "--json")
    assert code == 0, text
    changes = json.loads(text)
    old, new = place.scores(1, 2, 3, version="1"), place.scores(1, 2, 3, version="2")
    assert sum(each["changed"] for each in changes) == sum(old[key] != new[key] for key in old) > 0
    assert sum(each["same"] for each in changes) == sum(old[key] == new[key] for key in old)
    assert {(each["added"], each["removed"]) for each in changes} == {(0, 0)}

    code, text = place.command(*arguments)
    assert code == 0, text
    assert "What readers of `card_risk_scores` see change" in text
    assert seen(place) == dict.fromkeys(seen(place), "2")


def test_a_withdrawn_run_can_be_published_by_its_id(place: ChangingPlace) -> None:
    run = scored_by(place, "2")[1]
    withdraw(place.warehouse, run.run_id)
    assert place.view() == keys(1, 3)

    code, text = place.command("publish", run.run_id[:8], "--reason", "it was right", "--yes")

    assert code == 0, text
    assert place.view() == keys(1, 2, 3)
    [move] = moves_of(place.warehouse, run.run_id)
    assert (move.state_before, move.instead_of, move.reason) == ("withdrawn", (), "it was right")
    _, shown = place.command("show", run.run_id)
    assert "Published again, it was withdrawn before" in " ".join(shown.split())
    place.verify()


def test_a_challengers_run_goes_live_in_place_of_the_champions(place: ChangingPlace) -> None:
    """Version 1's run of the second day becomes a published shadow, as a challenger leaves it."""
    shadow, champion = scored_by(place, "1")[1], scored_by(place, "2")[1]
    as_variant(place, shadow, "shadow:card-risk/1")
    assert place.seen_scores() == place.scores(1, 2, 3, version="2")

    arguments = ("--start", "2026-01-02", "--end", "2026-01-03", "--reason", "it was better", "--yes")
    code, text = place.command("publish", "--pipeline", "card-risk", "--scored-by", "card-risk/1", *arguments)

    assert code == 0, text
    assert place.seen_scores() == place.scores(1, 3, version="2") | place.scores(2, version="1")
    assert find_run(place.warehouse, champion.run_id).state == "superseded"
    [move] = moves_of(place.warehouse, champion.run_id)
    assert (move.run_id, move.variant_before) == (shadow.run_id, "shadow:card-risk/1")
    place.verify()


def test_a_challengers_past_goes_live_in_one_command_as_the_dry_run_counted(place: ChangingPlace) -> None:
    for run in scored_by(place, "1"):
        as_variant(place, run, "shadow:card-risk/1")
    arguments = ("publish", "--pipeline", "card-risk", "--scored-by", "card-risk/1")
    stored = count_rows(place)

    before = dict(place.view("score"))
    code, text = place.command(*arguments, "--dry-run", "--json")
    assert code == 0, text
    counted = json.loads(text)
    assert dict(place.view("score")) == before
    code, text = place.command(*arguments, "--reason", "it was better", "--yes")
    assert code == 0, text

    after = dict(place.view("score"))
    assert sum(each["changed"] for each in counted) == sum(before[key] != after[key] for key in before) > 0
    assert sum(each["same"] for each in counted) == sum(before[key] == after[key] for key in before)
    assert after == place.scores(1, 2, 3, version="1")
    assert count_rows(place) == stored
    assert {run.variant for run in scored_by(place, "1")} == {"live"}
    code, text = place.command(
        "publish", "--pipeline", "card-risk", "--scored-by", "card-risk/2", "--reason", "back", "--yes"
    )
    assert code == 0, text
    assert dict(place.view("score")) == before
    place.verify()


def as_variant(place: ChangingPlace, run: RunRecord, variant: str, state: str = "published") -> None:
    """Make a run what a challenger leaves."""
    made = {"state": state, "variant": variant, "replaced_by_run_id": None, "retired_at": None}
    with place.warehouse.writing() as connection:
        connection.execute(sa.update(runs).where(runs.c.run_id == run.run_id).values(**made))


def count_rows(place: ChangingPlace) -> int:
    with place.warehouse.reading() as connection:
        return int(connection.execute(sa.text("select count(*) from card_risk_scores__history")).scalar_one())


@pytest.mark.parametrize("state", ["published", "superseded"])
def test_a_run_of_another_variant_does_not_go_live_with_its_version(place: ChangingPlace, state: str) -> None:
    for run in scored_by(place, "1"):
        as_variant(place, run, "trial:wider", state)

    code, text = place.command("publish", "--pipeline", "card-risk", "--scored-by", "card-risk/1", "--dry-run")

    assert (code, "no run of `card-risk` was scored by `card-risk/1`" in text) == (2, True), text


def test_what_is_live_already_is_left_alone(place: ChangingPlace) -> None:
    arguments = ("publish", "--pipeline", "card-risk", "--scored-by", "card-risk/2")
    code, text = place.command(*arguments, "--reason", "again", "--yes")
    assert (code, "nothing to publish" in text) == (0, True)

    with pytest.raises(WrongState, match="is `published`"):
        plan_move(place.warehouse, [scored_by(place, "2")[0].run_id])


def test_an_unknown_version_is_refused_with_those_that_scored(place: ChangingPlace) -> None:
    code, text = place.command("publish", "--pipeline", "card-risk", "--scored-by", "card-risk/9", "--dry-run")

    assert code == 2
    assert "no run of `card-risk` was scored by `card-risk/9`" in " ".join(text.split())
    assert "card-risk/1" in text


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("abc", "--pipeline", "card-risk"),
        ("--pipeline", "card-risk"),
        ("--scored-by", "card-risk/1"),
        ("abc", "--start", "2026-01-01"),
        ("--pipeline", "card-risk", "--scored-by", "card-risk/1"),
        ("abc", "--json", "--reason", "x"),
    ],
)
def test_wrong_arguments_change_nothing(place: ChangingPlace, arguments: tuple[str, ...]) -> None:
    before = place.states()

    code, _ = place.command("publish", *arguments, "--yes")

    assert code == 2
    assert place.states() == before


def test_a_run_whose_rows_are_gone_is_refused(place: ChangingPlace) -> None:
    run = scored_by(place, "1")[0]
    table = sa.text(f"delete from card_risk_scores__history where partition = 0 and payment_id = {keys(1)[0]}")
    with place.warehouse.writing() as connection:
        connection.execute(table)

    with pytest.raises(PublishRefused, match="has lost 1 of its 4 rows"):
        publish_with_rows(place.warehouse, [run.run_id], "Ada", "why not")
    with pytest.raises(PublishRefused, match="has lost 1 of its 4 rows"):
        list(compare_live(place.warehouse, plan_move(place.warehouse, [run.run_id])))
    assert seen(place) == dict.fromkeys(seen(place), "2")


def test_an_empty_run_goes_live_again_although_no_row_was_ever_scored(place: ChangingPlace) -> None:
    place.edit("table: card_risk_scores", "table: quiet_scores")
    place.add("empty: publish")
    place.change("delete from payments")
    place.run(3)
    place.run(3, "restate", "2026-01-01", "2026-01-02")
    old = next(
        run for run in list_runs(place.warehouse, limit=1000) if run.state == "superseded" and not run.rows_scored
    )

    [change] = compare_live(place.warehouse, plan_move(place.warehouse, [old.run_id]))
    assert (change.same, change.changed, change.added, change.removed) == (0, 0, 0, 0)
    publish_with_rows(place.warehouse, [old.run_id], "Ada", "x")

    assert find_run(place.warehouse, old.run_id).state == "published"
    place.verify()


def test_pruned_rows_are_not_published(place: ChangingPlace) -> None:
    place.add("retention: {keep_runs: 0}")
    place.command("prune", "card-risk", "--yes")

    with pytest.raises(PublishRefused, match="were pruned"):
        plan_move(place.warehouse, [scored_by(place, "1")[0].run_id])
    code, text = place.command(
        "publish", "--pipeline", "card-risk", "--scored-by", "card-risk/1", "--reason", "x", "--yes"
    )
    assert (code, "nothing to publish" in text) == (0, True)


def test_a_run_that_covers_a_live_one_in_part_is_refused(place: ChangingPlace) -> None:
    place.edit("grain: 1d", "grain: 3d")
    place.run(3, "restate", "2026-01-01", "2026-01-04")

    with pytest.raises(PublishRefused, match="they cover live runs only in part"):
        plan_move(place.warehouse, [scored_by(place, "1")[0].run_id])
    move = publish_with_rows(place.warehouse, [run.run_id for run in scored_by(place, "1")], "Ada", "days again")

    assert len(move.replaced) == 1
    assert len(seen(place)) == 3
    assert place.seen_scores() == place.scores(1, 2, 3, version="1")
    place.verify()


def test_what_the_version_scored_in_other_intervals_is_left_alone_where_it_is_live(place: ChangingPlace) -> None:
    """Version 1 scored days, version 2 all three together, and then version 1 the three together."""
    place.edit("grain: 1d", "grain: 3d")
    place.run(3, "restate", "2026-01-01", "2026-01-04")
    arguments = ("publish", "--pipeline", "card-risk", "--reason", "x", "--yes", "--scored-by")
    place.edit("card-risk@2", "card-risk@1")
    place.run(3, "restate", "2026-01-01", "2026-01-04")

    code, text = place.command(*arguments, "card-risk/1")
    assert (code, "nothing to publish" in text) == (0, True), text

    code, text = place.command(*arguments, "card-risk/2")  # the newer of its overlapping runs
    assert code == 0, text
    assert list(seen(place)) == ["2026-01-01 → 01-04"]
    assert place.seen_scores() == place.scores(1, 2, 3, version="2")
    place.verify()


def test_only_runs_of_the_named_table_are_published(place: ChangingPlace) -> None:
    place.edit("table: card_risk_scores", "table: other_scores")
    place.edit("card-risk@2", "card-risk@1")
    place.run(3)
    place.edit("card-risk@1", "card-risk@2")
    place.run(3, "restate", "2026-01-01", "2026-01-04")
    arguments = ("publish", "--pipeline", "card-risk", "--reason", "x", "--yes", "--scored-by", "card-risk/1")

    code, text = place.command(*arguments)
    assert (code, "of several destinations" in " ".join(text.split())) == (2, True), text
    code, text = place.command(*arguments, "--table", "other_scores")

    assert code == 0, text
    assert place.seen_scores("other_scores") == place.scores(1, 2, 3, version="1")
    assert place.seen_scores() == place.scores(1, 2, 3, version="2")
    place.verify()


def test_runs_that_overlap_are_refused(place: ChangingPlace) -> None:
    both = [scored_by(place, "1")[0].run_id, scored_by(place, "2")[0].run_id]
    withdraw(place.warehouse, both[1])

    with pytest.raises(PublishRefused, match="overlap"):
        plan_move(place.warehouse, both)


def test_a_run_that_never_ended_well_is_refused(place: ChangingPlace) -> None:
    run = scored_by(place, "1")[0]
    for state in ("failed", "halted", "abandoned", "running", "audited"):
        with place.warehouse.writing() as connection:
            connection.execute(sa.update(runs).where(runs.c.run_id == run.run_id).values(state=state))
        with pytest.raises(WrongState, match=f"is `{state}`"):
            plan_move(place.warehouse, [run.run_id])
    with pytest.raises(RunNotFound):
        plan_move(place.warehouse, ["0" * 32])


def test_of_two_moves_at_once_both_leave_one_live_run_an_interval(place: ChangingPlace) -> None:
    old, new = ([run.run_id for run in scored_by(place, version)] for version in "12")
    ended: list[object] = []

    def move(run_ids: list[str]) -> None:
        for _ in range(100):
            try:
                ended.append(publish_with_rows(place.warehouse, run_ids, "Ada", "at once"))
                return
            except WrongState as error:
                ended.append(error)
                return
            except TransientError:  # DuckDB refuses the second of two transactions, and does not let it wait
                time.sleep(0.1)

    threads = [threading.Thread(target=move, args=(run_ids,)) for run_ids in (old, new, old)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(ended) == 3
    assert len(seen(place)) == 3
    assert place.view() == keys(1, 2, 3)
    place.verify()


def test_a_move_that_fails_changes_nothing(place: ChangingPlace) -> None:
    before = place.states()

    def fail(_connection: sa.Connection, _move: object) -> None:
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        publish_again(place.warehouse, [run.run_id for run in scored_by(place, "1")], "Ada", "x", fail)

    assert place.states() == before
    assert moves_of(place.warehouse, scored_by(place, "1")[0].run_id) == []


def test_later_runs_supersede_what_was_published_again(place: ChangingPlace) -> None:
    publish_with_rows(place.warehouse, [scored_by(place, "1")[2].run_id], "Ada", "x")

    assert place.run(3, "restate", "2026-01-03", "2026-01-04") == ["published 2026-01-03 → 01-04"]

    assert place.seen_scores() == place.scores(1, 2, 3, version="2")
    place.verify()


# --- run --restate --scored-by ------------------------------------------------------------------


def test_a_restate_scores_what_an_old_version_scored(place: ChangingPlace) -> None:
    publish_with_rows(place.warehouse, [run.run_id for run in scored_by(place, "1")[::2]], "Ada", "x")
    options = ("--restate", "--scored-by", "card-risk/1")

    days = [("2026-01-01 → 01-02", "restate"), ("2026-01-03 → 01-04", "restate")]
    assert place.plan(3, *options) == days
    code, text = place.command_on(3, "plan", str(place.spec), "--json", *options)
    assert (code, json.loads(text)["replaces"]) == (0, {"runs": 2, "rows": 8, "models": ["card-risk/1"]})
    code, text = place.command_on(3, "run", str(place.spec), "--dry-run", *options)
    assert code == 0, text
    assert "replaced when they are published: 8 scores of 2 runs by card-risk/1" in " ".join(text.split())
    assert place.plan(3, *options, "--start", "2026-01-02", "--end", "2026-01-04") == days[1:]
    place.driver.run(end_of(3), "restate", None, None, "card-risk/1")

    assert place.seen_scores() == place.scores(1, 2, 3, version="2")
    assert "no live run of the range was scored by `card-risk/1`" in place.refused_plan(3, *options)
    place.verify()


def test_scored_by_needs_a_restate_and_a_version(place: ChangingPlace) -> None:
    assert "--scored-by goes with --restate" in place.refused_plan(3, "--scored-by", "card-risk/1")
    assert "is no version of a model" in place.refused_plan(3, "--restate", "--scored-by", "card-risk@1")
