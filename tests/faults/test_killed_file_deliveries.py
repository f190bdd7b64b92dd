"""Kill a delivery to files or to a Delta table: readers see whole intervals, and the next delivery heals."""

from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from penstock.ledger.reader import list_runs
from penstock.ledger.writer import withdraw
from penstock.upkeep.verify import verify_ledger
from tests.conftest import DIALECTS
from tests.faults.conftest import Tell
from tests.faults.harness.boundaries import TARGET
from tests.faults.harness.child import Fault
from tests.faults.harness.scene import Scene, Trial
from tests.faults.test_killed_deliveries import TABLES
from tests.lake_readers import named_files, read_delta_scores, read_key, read_pointers, read_scores

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

APART = {"parquet": 11, "delta": 13}
"""Every so many boundaries are tried without `soak`."""
soak = pytest.mark.soak


@pytest.fixture
def trial(tmp_path: Path, empty_database: Callable[..., str], request: pytest.FixtureRequest) -> Trial:
    """A run that is published and not delivered, to a folder below the one of the test."""
    dialect, kind = request.param
    root = tmp_path / TARGET / "out"
    scene = Scene(tmp_path / "scene", dialect, empty_database)
    path = root if kind == "delta" else f"{root}/{{interval_start:%Y}}/{{run_id}}"
    scene.write_spec(15, f'deliver: [{{kind: {kind}, name: lake, path: "{path}"}}]')
    trial = scene.trial()
    trial.run()
    return trial


def start_again(trial: Trial, root: Path, away: Path) -> None:
    """Let neither the ledger nor the folder know of a delivery."""
    with trial.warehouse.writing() as connection:
        for table in TABLES:
            connection.execute(sa.delete(table))
        connection.execute(sa.text("update penstock_runs set state = 'published', retired_at = null"))
    if root.exists():
        root.rename(away)


def read_whole(root: Path, kind: str) -> dict[int, float]:
    """Return what readers find. Each file that a pointer names is there with all of its bytes."""
    if kind == "delta":
        return read_delta_scores(str(root))
    for pointer in read_pointers(str(root)).values():
        for file in pointer["files"]:
            assert len(read_key(str(root), file["path"])) == file["bytes"]
    return read_scores(str(root))


@pytest.mark.parametrize("share", [pytest.param(n, marks=[soak] if n else []) for n in range(3)])
@pytest.mark.parametrize("trial", [(d, k) for d in DIALECTS for k in APART], indirect=True, ids="-".join)
def test_a_killed_delivery_shows_whole_intervals_and_is_completed_by_the_next(
    trial: Trial, share: int, tmp_path: Path, tell: Tell, request: pytest.FixtureRequest
) -> None:
    dialect, kind = request.node.callspec.params["trial"]
    root = tmp_path / TARGET / "out"
    boundaries = trial.run(how="deliver").boundaries
    live = trial.live_scores()
    assert read_whole(root, kind) == live
    points = [number for number, name in enumerate(boundaries, 1) if name.startswith("before ")][share :: APART[kind]]
    for number, point in enumerate(points):
        start_again(trial, root, tmp_path / f"away{number}")
        trial.run(Fault("kill", point), "deliver")
        assert read_whole(root, kind) in ({}, live)
        trial.lapse()
        ending = trial.run(how="deliver")
        assert ending.exit_code == 0, ending.output
        assert read_whole(root, kind) == live

        [run] = list_runs(trial.warehouse)
        withdraw(trial.warehouse, run.run_id)
        trial.run(Fault("kill", point), "deliver")
        assert read_whole(root, kind) in ({}, live)
        trial.lapse()
        ending = trial.run(how="deliver")
        assert ending.exit_code == 0, ending.output
        assert read_whole(root, kind) == {}
        assert verify_ledger(trial.warehouse) == ()
    if kind != "delta":
        assert any("os.rename" in name for name in boundaries)
        assert named_files(str(root)) == []
    tell(f"kill -9 of a delivery to {kind}, share {share}", dialect, f"{len(points)} of {len(points)} healed")
