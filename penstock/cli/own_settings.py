"""Work in a new project's folder by its own settings alone."""

import os
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path


@contextmanager
def alone_in(folder: Path) -> Iterator[list[str]]:
    """Work in the folder with only its `.env`, so that nothing is written to the warehouse of the user's variables.

    Gives the names of the user's variables, which are unset meanwhile.
    """
    own = {name: value for name, value in os.environ.items() if name.upper().startswith("PENSTOCK_")}
    for name in own:
        del os.environ[name]
    try:
        with chdir(folder):
            yield sorted(own)
    finally:
        os.environ.update(own)
