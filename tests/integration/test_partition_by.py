"""Runs whose features look at the other rows of a group: the scores do not depend on how rows are cut."""

import json
from collections.abc import Callable
from datetime import timedelta

import pytest

from penstock.api.features import read_past_features
from penstock.database.connections import Connector
from penstock.errors import SettingsError, SpecError
from penstock.ledger.reader import list_runs
from penstock.privacy.masking import HIDDEN
from penstock.run.extract import describe_large_group
from penstock.run_types import RowGroup, SourcePlan
from penstock.spec import pipeline as spec_module
from penstock.spec.yaml_file import load_pipeline
from penstock.tasks.process_resources import connect
from tests.conftest import DIALECTS, view_rows
from tests.driver import Driver
from tests.integration.test_cli import invoke
from tests.shop import SPEC, START, Place

WINDOW = """features: >-
  select payment_id, created_at, 50 * amount / max(amount) over (partition by country) as amount,
  least(row_number() over (partition by country order by payment_id), 9) as items, country, first from payments
"""
GROUPED = SPEC.replace("model: ", f"partition_by: country\n{WINDOW}model: ")
CUT = WINDOW.replace("partition by country order by payment_id", "order by payment_id").replace(
    "over (partition by country)", "over ()"
)


def with_size(spec: str, rows: int) -> str:
    return spec.replace("partition_rows: 150", f"partition_rows: {rows}")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_scores_of_windows_do_not_depend_on_the_size_of_partitions(
    make_place: Callable[..., Place], dialect: str
) -> None:
    place = make_place(dialect, dialect, spec=with_size(GROUPED, 10_000), days=1)
    now, found = START + timedelta(days=1), []
    for size in (10_000, 130, 80):
        place.spec.write_text(with_size(GROUPED, size))
        driver = Driver(load_pipeline(place.spec), connect, place.registry)
        steps = driver.run(now, "restate" if found else "due", *((START, now) if found else ()))
        assert steps[-1] == "publish", steps[-1]
        found.append((view_rows(place.warehouse), list_runs(place.warehouse)[0].partitions))
    assert [partitions for _, partitions in found] == [1, 2, 4]
    assert len(found[0][0]) == 250
    assert found[0][0] == found[1][0] == found[2][0]


def test_a_value_with_too_many_rows_halts_the_run_and_is_named(make_place: Callable[..., Place]) -> None:
    place = make_place(spec=with_size(GROUPED, 40), days=1)
    driver = Driver(load_pipeline(place.spec), connect, place.registry)

    steps = driver.run(START + timedelta(days=1))

    assert steps[-1].startswith("halted: ")
    assert "`partition_by: country`: the value `" in steps[-1]
    assert "a partition takes at most 40 (`partition_rows`)" in steps[-1]
    assert [run.state for run in list_runs(place.warehouse)] == ["halted"]
    assert "Raise `partition_rows`" in str(list_runs(place.warehouse)[0].error)
    planned = json.loads(invoke("plan", str(place.spec), "--json").stdout)
    assert "`partition_by: country`: the value `" in json.dumps(planned)


def test_a_private_value_with_too_many_rows_is_not_shown(make_place: Callable[..., Place]) -> None:
    place = make_place(
        spec=GROUPED.replace("    key: [", "    private: {country: hash}\n    key: [").replace(", country]", "]")
    )
    plan = SourcePlan(9, "", (), largest_group=RowGroup("secret", 9))

    told = describe_large_group(load_pipeline(place.spec), plan, 5, in_memory=True)

    assert told is not None
    assert HIDDEN in told
    assert "secret" not in told
    assert "PENSTOCK_MEMORY" in told


def test_a_window_over_the_partition_is_refused_with_its_line(make_place: Callable[..., Place]) -> None:
    place = make_place(spec=SPEC)
    for features in (WINDOW, CUT):
        place.spec.write_text(SPEC.replace("model: ", f"{features}model: "))
        with pytest.raises(SpecError, match=r"line \d+: `features`: `max` over a window.*`partition_by:`"):
            load_pipeline(place.spec)


def test_the_first_run_compares_whole_and_cut_and_names_the_column(
    make_place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make_place(spec=SPEC, days=2)
    monkeypatch.setattr(spec_module, "check_features", lambda *_: None)
    place.spec.write_text(SPEC.replace("model: ", f"{CUT}model: "))
    driver = Driver(load_pipeline(place.spec), connect, place.registry)

    steps = driver.run(START + timedelta(days=1))

    assert steps[-1].startswith("failed: ")
    assert "gives other values of `amount`, `items` for the same rows" in steps[-1]
    assert "`country`" not in steps[-1]


def test_features_for_training_are_those_of_whole_intervals(make_place: Callable[..., Place]) -> None:
    place = make_place(spec=GROUPED, days=2)
    spec, connector = load_pipeline(place.spec), Connector(connect, ())
    day = timedelta(days=1)

    rows = read_past_features(spec, connector, START, START + 2 * day, None, 60)

    assert rows.num_rows == 500
    for start, end, step in ((START, START + 2 * day, 2 * day), (START + day / 2, START + 2 * day, None)):
        with pytest.raises(SettingsError, match="whole intervals"):
            read_past_features(spec, connector, start, end, step, 60)


def test_check_compares_the_sample_whole_and_cut(
    make_place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make_place(spec=SPEC)
    monkeypatch.setattr(spec_module, "check_features", lambda *_: None)
    place.spec.write_text(SPEC.replace("model: ", f"{CUT}model: "))

    found = invoke("check", str(place.spec))

    assert found.exit_code != 0
    assert "gives other values of `amount`, `items` for the same rows" in " ".join(found.text.split())


def test_only_the_first_run_of_a_spec_compares(
    make_place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make_place(spec=SPEC, days=2)
    driver = Driver(load_pipeline(place.spec), connect, place.registry)
    compared: list[str] = []
    monkeypatch.setattr("penstock.run.validate.check_cut", lambda *args: compared.append(args[1]))

    driver.run(START + timedelta(days=1))
    driver.run(START + timedelta(days=2))

    assert len(list_runs(place.warehouse, states=["published"])) == 2
    assert len(compared) == 1
