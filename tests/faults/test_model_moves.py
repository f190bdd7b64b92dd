"""The model changes while a run scores: the run keeps the version that it pinned, or refuses what it cannot trust."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from penstock.models.registry import Registry
from penstock.models.training import train
from tests.faults.conftest import Tell
from tests.faults.harness.child import Fault
from tests.faults.harness.scene import Scene
from tests.shop import payments

pytestmark = pytest.mark.slow

EXTRACT = Fault("wait", name="before INSERT penstock_quarantine")
"""The run waits where it has scored its first partition, and not yet the second."""


def register_another(registry: Registry) -> str:
    """Register a version that scores otherwise; no alias points at it yet."""
    rows = payments(days=2, a_day=400, seed=7)
    label = (np.asarray(rows["items"]) > 3).astype(int)
    frame = rows.select(["amount", "items", "country", "first"]).append_column("label", pa.array(label))
    return train(frame, "label", rounds=3).register(registry, "card-risk").version


def model_file(scene: Scene) -> Path:
    version = scene.registry.aliases("card-risk")["champion"]
    return scene.folder / "models" / "card-risk" / version / "model.ubj"


def test_a_run_keeps_its_model_when_the_alias_moves_meanwhile(make_scene: Callable[..., Scene], tell: Tell) -> None:
    scene = make_scene("sqlite")
    pinned, other = scene.registry.aliases("card-risk")["champion"], register_another(scene.registry)
    assert scene.twin
    trial = scene.trial()
    running = trial.start(EXTRACT)
    running.wait_until_reached()

    scene.registry.promote("card-risk", other, "champion")
    running.go_on()

    assert "publish" in running.wait().message
    assert {run.model_version for run in trial.ledger()} == {pinned}
    trial.check_healed()
    tell("alias moved in mid-run", "sqlite", "all rows have the pinned version")


@pytest.mark.parametrize("harm", ["another model", "cut in half", "gone"])
def test_a_run_scores_with_the_bytes_that_it_verified_when_the_file_changes_meanwhile(
    make_scene: Callable[..., Scene], harm: str, tell: Tell
) -> None:
    scene = make_scene("sqlite")
    assert scene.twin
    file = model_file(scene)
    other = file.parent.parent / register_another(scene.registry) / "model.ubj"
    trial = scene.trial()
    running = trial.start(EXTRACT)
    running.wait_until_reached()

    do_harm(harm, file, other)
    running.go_on()

    assert "publish" in running.wait().message
    trial.check_healed()
    tell(f"model file in mid-run: {harm}", "sqlite", "scored with the verified bytes")


@pytest.mark.parametrize("harm", ["another model", "cut in half", "gone"])
def test_a_run_refuses_a_model_file_that_changed_before_it_was_read(
    make_scene: Callable[..., Scene], harm: str, tell: Tell
) -> None:
    scene = make_scene("sqlite")
    assert scene.twin
    file = model_file(scene)
    sound = file.read_bytes()
    other = file.parent.parent / register_another(scene.registry) / "model.ubj"
    trial = scene.trial()
    running = trial.start(Fault("wait", name="before INSERT penstock_runs"))
    running.wait_until_reached()

    do_harm(harm, file, other)
    running.go_on()

    assert "failed: " in running.wait().message
    [run] = trial.ledger()
    assert run.state == "failed"
    assert run.error is not None
    assert "card-risk" in run.error
    file.write_bytes(sound)
    trial.run()
    trial.check_healed()
    tell(f"model file after the claim: {harm}", "sqlite", "refused; healed once the file is restored")


def do_harm(harm: str, file: Path, other: Path) -> None:
    content = {"another model": other.read_bytes(), "cut in half": file.read_bytes()[: file.stat().st_size // 2]}
    file.unlink()  # a new file in its place, as a careless copy makes it
    if harm in content:
        file.write_bytes(content[harm])
