"""The command line of a pack: `python -m penstock.examples.<pack> generate | train | incident | evaluate`."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from penstock import PenstockError, Project
from penstock.examples.judging import Judged, judge_published, to_markdown
from penstock.examples.pack import Pack, Size
from penstock.examples.project import inside, newest_end, read_size, write_pipelines, write_settings, write_size

FOLDER = Path("penstock-demo")

JudgeGenerated = Callable[[Project, Size], dict[str, list[Judged]]]
JudgeReal = Callable[[Path], dict[str, list[Judged]]]


def run_command(pack: Pack, judge_generated: JudgeGenerated, judge_real: JudgeReal) -> None:
    """Run the command that the arguments name."""
    module = pack.name.replace("-", "_")
    parser = argparse.ArgumentParser(prog=f"python -m penstock.examples.{module}", description=pack.about)
    commands = parser.add_subparsers(required=True)
    _add_generate(commands.add_parser("generate", help="make a project folder with the pack's data in it"), pack)
    _add_train(commands.add_parser("train", help="train the pack's models on what is known, and register them"), pack)
    _add_incident(
        commands.add_parser("incident", help="break the pack's source, repair it, or deliver the labels"), pack
    )
    judging = commands.add_parser("evaluate", help="judge model, constant and simple rule on a holdout")
    judging.add_argument("--real", type=Path, help="the file or folder of real data that the pack's page names")
    judging.add_argument("--rows", type=int, default=pack.demo.rows)
    judging.add_argument("--seed", type=int, default=7)
    judging.set_defaults(run=lambda given: _evaluate(pack, given, judge_generated, judge_real))
    given = parser.parse_args()
    given.run(given)


def _add_generate(parser: argparse.ArgumentParser, pack: Pack) -> None:
    _add_folder(parser)
    parser.add_argument("--rows", type=int, default=pack.demo.rows, help="rows to score and to learn from, about")
    parser.add_argument("--days", type=int, default=pack.demo.days)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--dirty", type=float, default=pack.demo.dirty, help="share of the scored rows to corrupt")
    parser.add_argument("--until", type=datetime.fromisoformat, help="end of the newest interval; else the newest due")
    parser.set_defaults(run=lambda given: _generate(parser, pack, given))


def _generate(parser: argparse.ArgumentParser, pack: Pack, given: argparse.Namespace) -> None:
    given.folder.mkdir(parents=True, exist_ok=True)
    if not (given.folder / ".env").exists():
        write_settings(given.folder, [pack])
    until = newest_end(pack, given.until.replace(tzinfo=UTC) if given.until else datetime.now(UTC))
    size = Size(given.rows, given.days, given.seed, given.dirty, until)
    with _inside(parser, given.folder) as project:
        write_pipelines(pack, size)
        write_size(pack, size)
        for what, content in pack.make(project, size).summary.items():
            print(f"{what:24} {content}")


def _add_train(parser: argparse.ArgumentParser, pack: Pack) -> None:
    _add_folder(parser)
    parser.set_defaults(run=lambda given: _train(parser, pack, given))


def _train(parser: argparse.ArgumentParser, pack: Pack, given: argparse.Namespace) -> None:
    with _inside(parser, given.folder) as project:
        for manifest in pack.train(project, read_size(pack)):
            judged = ", ".join(f"{name} {value:.3f}" for name, value in manifest.metrics.items())
            print(f"{manifest.label}: {judged} on the holdout")


def _add_incident(parser: argparse.ArgumentParser, pack: Pack) -> None:
    _add_folder(parser)
    names = [each.name for each in pack.incidents]
    parser.add_argument("name", choices=[*names, "labels"], help="`labels`: deliver what really happened")
    parser.add_argument("--mend", action="store_true", help="undo it, as the operator would")
    parser.set_defaults(run=lambda given: _strike(parser, pack, given))


def _strike(parser: argparse.ArgumentParser, pack: Pack, given: argparse.Namespace) -> None:
    with _inside(parser, given.folder) as project:
        size = read_size(pack)
        if given.name == "labels":
            print(f"{pack.deliver_labels(project, size):,} labels were delivered")
            for pipeline in pack.labels:
                rows, figure = judge_published(project, pack, pipeline)
                print(f"{pipeline}: {pack.labels[pipeline].metric} {figure:.3f} over {rows:,} live scores")
            return
        chosen = next(each for each in pack.incidents if each.name == given.name)
        (chosen.mend if given.mend else chosen.strike)(project, size)
        print(chosen.remedy if given.mend else chosen.summary)


def _evaluate(pack: Pack, given: argparse.Namespace, generated: JudgeGenerated, real: JudgeReal) -> None:
    tables = {} if given.real is None else real(given.real)
    size = Size(
        given.rows, pack.demo.days, given.seed, pack.demo.dirty, newest_end(pack, datetime(2026, 6, 1, tzinfo=UTC))
    )
    with TemporaryDirectory() as folder:
        write_settings(Path(folder), [pack])
        with inside(Path(folder)) as project:
            write_pipelines(pack, size)
            pack.make(project, size)
            tables = generated(project, size) | tables
            project.close()
    for title, judged in tables.items():
        print(f"\n{title}\n\n{to_markdown(judged)}")


@contextmanager
def _inside(parser: argparse.ArgumentParser, folder: Path) -> Iterator[Project]:
    """Work in a project folder. An error that the user can fix ends the command with its message alone."""
    if not folder.is_dir():
        parser.error(f"there is no folder {folder}; `generate` makes it, and --folder names another")
    try:
        with inside(folder) as project:
            yield project
    except PenstockError as error:
        parser.exit(error.exit_code, f"Error: {error}\n")


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folder", type=Path, default=FOLDER, help="the project folder (default: %(default)s)")
