"""Make one project folder of several packs, trained, for `penstock up`: `python -m examples FOLDER [PACK …]`."""

import argparse
from datetime import UTC, datetime
from pathlib import Path

from examples.pack import Size, open_pack, pack_names
from examples.place import inside, newest_end, write_pipelines, write_settings, write_size


def make_project(folder: Path, names: list[str], seed: int, now: datetime) -> None:
    """Make each pack's world in the folder, and train its models."""
    packs = [open_pack(name) for name in names]
    folder.mkdir(parents=True)
    write_settings(folder, packs)
    with inside(folder) as place:
        for pack in packs:
            size = Size(pack.demo.rows, pack.demo.days, seed, pack.demo.dirty, newest_end(pack, now))
            write_pipelines(pack, size)
            write_size(pack, size)
            pack.make(place, size)
            trained = ", ".join(manifest.label for manifest in pack.train(place, size))
            print(f"{pack.name}: {', '.join(pack.pipelines)}; trained {trained}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples", description=__doc__)
    parser.add_argument("folder", type=Path, help="a folder that is not there yet")
    parser.add_argument("packs", nargs="*", default=[], help=f"of {', '.join(pack_names())}; all where left out")
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    if given.folder.exists():
        parser.error(f"{given.folder} is there already")
    make_project(given.folder, given.packs or list(pack_names()), given.seed, datetime.now(UTC))


if __name__ == "__main__":
    main()
