"""The import roots of 0.1 (`flows`, `deployments`), kept for one version.

Deployments that 0.1 made name their flow and pull step by these roots. This module goes with 0.3.
"""

import sys
import warnings
from importlib import import_module


def keep_old_names(root: str, *modules: str) -> None:
    """Make `<root>.<module>` the same module as `penstock.<root>.<module>`, with a warning.

    Without this the file would be loaded a second time, with a second set of classes.
    """
    warnings.warn(
        f"`{root}` is now `penstock.{root}`. A deployment of 0.1 uses the old name; run `penstock deploy`.",
        FutureWarning,
        stacklevel=2,
    )
    for module in modules:
        loaded = import_module(f"penstock.{root}.{module}")
        sys.modules[f"{root}.{module}"] = loaded
        setattr(sys.modules[root], module, loaded)
