"""`penstock demo --pack NAME`: run a domain pack of `examples/`, from its generator to its last incident."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.cli.demo.context import DemoContext, load_engines, server_ahead, stop
from penstock.cli.output import make_table
from penstock.wording import plural

if TYPE_CHECKING:
    from penstock.cli.demo.operator import DemoOperator
    from penstock.examples.pack import Pack, Size
    from penstock.examples.scenario import Act, Followed


def find_pack(name: str) -> "Pack":
    """Return a pack by its name.

    Raises:
        SettingsError: there is no such pack.
    """
    from penstock.examples.pack import open_pack

    return open_pack(name)


def write_settings(folder: Path, pack: "Pack") -> None:
    from penstock.examples.project import write_settings as write

    write(folder, [pack])


def play_pack(stage: DemoContext, pack: "Pack", shown: Path, rows: int | None, seed: int) -> None:
    """Make the pack's data, train, score, play its incidents, and collect the labels.

    Args:
        shown: The folder, as the user entered it.

    Raises:
        typer.Exit: an act did not end as the pack expects.
    """
    with server_ahead(stage.settings):
        size = _make_world(stage, pack, shown, rows, seed)
        with stage.clock.phase("train"):
            _train(stage, pack, size)
        with stage.clock.phase("load the engines"):
            load_engines()
        from penstock.api.project import Project
        from penstock.cli.demo.operator import DemoOperator
        from penstock.cli.prefect_api import prefect_api
        from penstock.examples.scenario import play

        operator = DemoOperator(stage)
        with prefect_api(stage.settings):
            with stage.clock.phase("runs"):
                for act in play(Project(stage.settings), pack, size, operator):
                    _show_act(stage, act)
            with stage.clock.phase("labels"):
                _show_labels(stage, pack, size, operator)
            _show_end(stage, pack, shown)
        closing = time.perf_counter()
    stage.clock.phases["stop the server"] = time.perf_counter() - closing
    phases = ", ".join(f"{name} {spent:.1f}" for name, spent in stage.clock.phases.items())
    stage.write(f"\n[dim]{stage.clock.total:.1f} s in all: {phases}[/dim]")


def _make_world(stage: DemoContext, pack: "Pack", shown: Path, rows: int | None, seed: int) -> "Size":
    from datetime import UTC, datetime

    from rich.markup import escape

    from penstock.api.project import Project
    from penstock.examples.pack import Size
    from penstock.examples.project import newest_end, write_pipelines, write_size

    stage.title(pack.about)
    with stage.clock.phase("make the data"):
        until = newest_end(pack, datetime.now(UTC))
        size = Size(rows or pack.demo.rows, pack.demo.days, seed, pack.demo.dirty, until)
        write_pipelines(pack, size)
        write_size(pack, size)
        made = pack.make(Project(stage.settings), size)
    table = make_table("made", "what")
    for name, what in made.summary.items():
        table.add_row(escape(name), escape(what))
    table.add_row(escape(str(shown / "pipelines")), ", ".join(f"{name}.yaml" for name in pack.pipelines))
    stage.console.print(table)
    return size


def _train(stage: DemoContext, pack: "Pack", size: "Size") -> None:
    from penstock.api.project import Project

    stage.title("Train on the known outcomes")
    for manifest in pack.train(Project(stage.settings), size):
        judged = ", ".join(f"{name} {value:.3f}" for name, value in manifest.metrics.items())
        stage.write(f"Registered [bold]{manifest.label}[/bold], {plural(len(manifest.features), 'feature')}; {judged}")


def _show_act(stage: DemoContext, act: "Act") -> None:
    from rich.markup import escape

    from penstock.examples.scenario import departure

    went_wrong = departure(act)
    if went_wrong:
        stop(f"{went_wrong}. Report it.")
    for note in act.notes:
        stage.write(f"Note: {escape(note)}")
    seen = f"Readers see {plural(act.after.rows, 'row')}"
    stage.write(f"{seen}, the same as before, to the byte." if act.before == act.after else f"{seen} now.")
    if act.accepted is not None:
        stage.write(f"Readers see {plural(act.accepted.rows, 'row')} since the run was accepted.")
    elif act.incident is not None:
        stage.write(f"[dim]Repaired:[/dim] {escape(act.incident.remedy)}")


def _show_labels(stage: DemoContext, pack: "Pack", size: "Size", operator: "DemoOperator") -> None:
    from rich.markup import escape

    from penstock.api.project import Project
    from penstock.examples.scenario import follow_labels

    stage.title("The labels arrive")
    for follow_up in pack.follow_ups:
        stage.write(escape(follow_up.summary))
    for followed in follow_labels(Project(stage.settings), pack, size, operator):
        _show_followed(stage, followed)


def _show_followed(stage: DemoContext, followed: "Followed") -> None:
    from rich.markup import escape

    from penstock.examples.scenario import missed

    went_wrong = missed(followed)
    if went_wrong:
        stop(f"{went_wrong}. Report it.")
    asked = followed.follow_up
    for message in followed.alerts.values():
        stage.write(f"Alert for {asked.pipeline}: {escape(message)}")
    if followed.promoted:
        seen = plural(followed.after.rows, "row")
        stage.write(f"Readers see {seen}, scored by {escape(followed.promoted)}. Nothing was scored again.")
    else:
        stage.write(f"[dim]What is done:[/dim] {escape(asked.remedy)}")


def _show_end(stage: DemoContext, pack: "Pack", shown: Path) -> None:
    """Show the run history, and how to look further."""
    from penstock.cli.demo.show import show_commands, show_runs
    from penstock.ledger.reader import list_runs

    stage.title("The run history")
    for name in pack.pipelines:
        warehouse = stage.connect("warehouse")
        records = [run for run in list_runs(warehouse, name) if run.champion_run_id is None]
        show_runs(stage, records)
    halted = next((run for run in records if run.state == "halted"), records[0])
    show_commands(stage, shown, halted.run_id)
