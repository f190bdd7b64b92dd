"""All packs at once on one `penstock up`, an hour of their schedules compressed: no run missing, none done twice."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from penstock.deployments.deploy.definition import define_deployment
from penstock.examples.__main__ import make_project
from penstock.examples.hour import run_hour, show
from penstock.examples.pack import Pack, Size, open_pack, pack_names
from penstock.examples.project import inside, newest_end, write_pipelines, write_settings, write_size
from penstock.examples.schedule_steps import spread, write_schedule

BEGIN = datetime(2026, 6, 10, 14, 30, tzinfo=UTC)


@pytest.fixture
def packs() -> list[Pack]:
    return [open_pack(name) for name in pack_names()]


def test_compressed_schedule_plans_one_run_for_each_interval_and_then_ends(packs: list[Pack], tmp_path: Path) -> None:
    write_settings(tmp_path, packs)
    with inside(tmp_path) as project:
        for pack in packs:
            size = Size(pack.small.rows, pack.small.days, 7, pack.small.dirty, newest_end(pack, BEGIN))
            write_pipelines(pack, size)
            write_size(pack, size)
        beats = spread(project, packs, pace=1.0)

        for beat in beats:
            write_schedule(beat, BEGIN)
            pipeline = project.load_pipeline(beat.pipeline)
            assert pipeline.interval is not None
            assert pipeline.interval.max_intervals == 1
            schedule = define_deployment(pipeline, beat.pipeline).schedule
            assert schedule is not None
            assert beat.moments(BEGIN)[-1] - BEGIN < timedelta(minutes=1)
            assert schedule.rrule.endswith(f"COUNT={len(beat.intervals)}")  # type: ignore[union-attr]

    assert {beat.pipeline for beat in beats} == {name for pack in packs for name in pack.pipelines}
    assert len({beat.moments(BEGIN)[0] for beat in beats}) == len(beats)


@pytest.mark.soak(sampled=False)
@pytest.mark.timeout(1500)
def test_all_packs_at_once_miss_no_run_and_publish_each_interval_once(packs: list[Pack], tmp_path: Path) -> None:
    folder = tmp_path / "all-packs"
    make_project(folder, packs, 7, datetime.now(UTC), small=True)

    kept = run_hour(folder, packs, 1.0, print)

    assert [problem for each in kept for problem in each.wrong] == [], show(kept)
    assert [(each.completed, each.published) for each in kept] == [(each.planned, each.planned) for each in kept]
