"""The command lines that all packs share: `python -m examples.<pack>.generate`, `.train`, `.incident`, `.evaluate`."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from examples.judging import Judged, judge_published, told
from examples.pack import Pack, Size
from examples.place import Place, inside, newest_end, read_size, write_pipelines, write_settings, write_size
from penstock.database.connections import close_engines
from penstock.errors import PenstockError

FOLDER = Path("penstock-demo")


def generate(pack: Pack) -> None:
    """Make a project folder with the pack's world in it."""
    parser = _parser(pack, "Make the pack's databases, files, settings and pipelines; same size and end, same world.")
    parser.add_argument("--rows", type=int, default=pack.demo.rows, help="rows to score and to learn from, about")
    parser.add_argument("--days", type=int, default=pack.demo.days)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--dirty", type=float, default=pack.demo.dirty, help="share of the scored rows that is spoiled")
    parser.add_argument("--until", type=datetime.fromisoformat, help="end of the newest interval; else the newest due")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    if not (given.folder / ".env").exists():
        write_settings(given.folder, [pack])
    until = newest_end(pack, given.until.replace(tzinfo=UTC) if given.until else datetime.now(UTC))
    size = Size(given.rows, given.days, given.seed, given.dirty, until)
    with _inside(parser, given.folder) as place:
        write_pipelines(pack, size)
        write_size(pack, size)
        for what, holds in pack.make(place, size).told.items():
            print(f"{what:24} {holds}")


def train(pack: Pack) -> None:
    """Train and register the pack's models."""
    parser = _parser(pack, "Train the pack's models on what is known, and register them.")
    given = parser.parse_args()
    with _inside(parser, given.folder) as place:
        for manifest in pack.train(place, read_size(pack)):
            judged = ", ".join(f"{name} {value:.3f}" for name, value in manifest.metrics.items())
            print(f"{manifest.label}: {judged} on the holdout")


def incident(pack: Pack) -> None:
    """Let an incident strike the pack's world, or mend it; or let the labels come in."""
    parser = _parser(pack, "Break the pack's world as it breaks in life; `penstock run` meets it.")
    names = [each.name for each in pack.incidents]
    parser.add_argument("name", choices=[*names, "labels"], help="`labels`: what really happened comes in")
    parser.add_argument("--mend", action="store_true", help="undo it, as the operator has it undone")
    given = parser.parse_args()
    with _inside(parser, given.folder) as place:
        size = read_size(pack)
        if given.name == "labels":
            print(f"{pack.deliver_labels(place, size):,} labels have come in")
            for pipeline in pack.labels:
                rows, figure = judge_published(place, pack, pipeline)
                print(f"{pipeline}: {pack.labels[pipeline].metric} {figure:.3f} over {rows:,} live scores")
            return
        chosen = pack.incidents[names.index(given.name)]
        (chosen.mend if given.mend else chosen.strike)(place, size)
        print(chosen.remedy if given.mend else chosen.story)


def evaluate(
    pack: Pack,
    generated: Callable[[Place, Size], dict[str, list[Judged]]],
    real: Callable[[Path], dict[str, list[Judged]]],
) -> None:
    """Print the pack's holdout tables: from its generator, and from real data where a path is given."""
    parser = argparse.ArgumentParser(description=f"{pack.name}: judge model, constant and simple rule on a holdout.")
    parser.add_argument("--real", type=Path, help="the file or folder of real data that the module's page names")
    parser.add_argument("--rows", type=int, default=pack.demo.rows)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    tables = {} if given.real is None else real(given.real)
    size = Size(
        given.rows, pack.demo.days, given.seed, pack.demo.dirty, newest_end(pack, datetime(2026, 6, 1, tzinfo=UTC))
    )
    with TemporaryDirectory() as folder:
        write_settings(Path(folder), [pack])
        with inside(Path(folder)) as place:
            write_pipelines(pack, size)
            pack.make(place, size)
            tables = generated(place, size) | tables
            close_engines()
    for title, judged in tables.items():
        print(f"\n{title}\n\n{told(judged)}")


@contextmanager
def _inside(parser: argparse.ArgumentParser, folder: Path) -> Iterator[Place]:
    """Work in a project folder; what a user can mend ends the command with its words alone."""
    if not folder.is_dir():
        parser.error(f"there is no folder {folder}; `generate` makes it, and --folder names another")
    try:
        with inside(folder) as place:
            yield place
    except PenstockError as error:
        parser.exit(error.exit_code, f"Error: {error}\n")


def _parser(pack: Pack, what: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=f"{pack.name}: {what}")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="the project folder (default: %(default)s)")
    return parser
