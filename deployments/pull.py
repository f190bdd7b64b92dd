"""The pull steps of our deployments: where a worker's flow process finds the project.

They run in every flow run before the flow is imported: whatever is imported here adds to the cold start.
"""

from pathlib import Path

from penstock.errors import SettingsError
from penstock.settings import project_folder


def enter_project(folder: str) -> dict[str, str]:
    """Return the project's folder as the `directory` that Prefect changes into, so that relative settings hold.

    Args:
        folder: Where `penstock deploy` was called; `PENSTOCK_PROJECT` on the worker wins, as an image sets it.

    Raises:
        SettingsError: the folder does not exist on this machine.
    """
    project = project_folder() or Path(folder)
    if not project.is_dir():
        raise SettingsError(
            f"the project folder {project} does not exist on this machine",
            "Set PENSTOCK_PROJECT on the worker to the folder that holds `.env` and the pipelines, "
            "or run `penstock deploy` from that folder.",
        )
    return {"directory": str(project)}


def record_project() -> dict[str, str]:
    """Return the folder that deployments record; a build step of `prefect.yaml`, run by `prefect deploy`."""
    return {"folder": str(project_folder() or Path.cwd())}
