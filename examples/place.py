"""Where a pack works: a project folder, which is the working folder while it does."""

from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path

from penstock.database.connections import Connector, Database, open_database
from penstock.models.registry import Registry
from penstock.settings import Settings, load_settings
from penstock.spec.pipeline import Pipeline
from penstock.spec.yaml_file import find_pipeline_file, load_pipeline


@dataclass(frozen=True)
class Place:
    """The project folder that is the working folder; paths in it are relative."""

    settings: Settings

    def connect(self, name: str) -> Database:
        return open_database(self.settings, name)

    @property
    def connector(self) -> Connector:
        """What opens the connections and files of the folder's settings."""
        return Connector(self.connect, self.settings.allowed_roots)

    def pipeline(self, name: str) -> Pipeline:
        return load_pipeline(find_pipeline_file(name, self.settings.pipelines))

    @property
    def registry(self) -> Registry:
        return Registry(self.settings.models_folder)


@contextmanager
def inside(folder: Path) -> Iterator[Place]:
    """Work in a project folder."""
    with chdir(folder):
        yield Place(load_settings())
