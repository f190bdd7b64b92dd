"""The pull steps of our deployments: find the project for a worker's flow process.

They run in every flow run before the flow is imported, so each import here adds to the cold start.
"""

from pathlib import Path

from penstock.errors import SettingsError
from penstock.settings import project_folder


def enter_project(folder: str) -> dict[str, str]:
    """Return the project's folder as the `directory` that Prefect changes into, so that relative paths work.

    Args:
        folder: The folder of the `penstock deploy` command. `PENSTOCK_PROJECT` on the worker wins; an image sets it.

    Raises:
        SettingsError: the folder does not exist on this machine.
    """
    project = project_folder() or Path(folder)
    if not project.is_dir():
        raise SettingsError(
            f"the project folder {project} does not exist on this machine",
            "Set PENSTOCK_PROJECT on the worker to the folder with `.env` and the pipelines, "
            "or run `penstock deploy` from that folder.",
        )
    return {"directory": str(project)}


def record_project() -> dict[str, str]:
    """Return the folder that deployments record. This is a build step of `prefect.yaml`."""
    return {"folder": str(project_folder() or Path.cwd())}
