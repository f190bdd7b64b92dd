"""Make one project of several packs, for `penstock up`: `python -m penstock.examples FOLDER [PACK …]`."""

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from penstock.examples.pack import Pack, Size, open_pack, pack_names
from penstock.examples.project import inside, newest_end, write_pipelines, write_settings, write_size


def make_project(folder: Path, packs: Sequence[Pack], seed: int, now: datetime, *, small: bool = False) -> None:
    """Generate each pack's data in a new folder, and train its models.

    Args:
        small: Use the sizes of the tests, not those of the demo.
    """
    folder.mkdir(parents=True)
    write_settings(folder, packs)
    with inside(folder) as project:
        for pack in packs:
            scale = pack.small if small else pack.demo
            size = Size(scale.rows, scale.days, seed, scale.dirty, newest_end(pack, now))
            write_pipelines(pack, size)
            write_size(pack, size)
            pack.make(project, size)
            trained = ", ".join(manifest.label for manifest in pack.train(project, size))
            print(f"{pack.name}: {', '.join(pack.pipelines)}; trained {trained}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m penstock.examples", description=__doc__)
    parser.add_argument("folder", type=Path, help="a folder that does not exist yet")
    parser.add_argument("packs", nargs="*", default=[], help=f"of {', '.join(pack_names())}; all where left out")
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    if given.folder.exists():
        parser.error(f"{given.folder} is there already")
    packs = [open_pack(name) for name in given.packs or pack_names()]
    make_project(given.folder, packs, given.seed, datetime.now(UTC))


if __name__ == "__main__":
    main()
