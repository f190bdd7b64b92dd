"""Fill a workload's source, in a process of its own, so that no candidate's memory includes it."""

import sys

from benchmarks.place import Place
from benchmarks.workload import load


def main(file: str) -> None:
    place = Place.read(file)
    load(place.workload).fill(place)


if __name__ == "__main__":
    main(sys.argv[1])
