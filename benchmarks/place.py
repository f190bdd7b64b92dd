"""The place of a workload: its own databases in one folder. `benchmarks.servers` creates it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["postgresql", "sqlite", "duckdb"]


@dataclass(frozen=True)
class Place:
    """What the candidates of one workload need. It is stored as a file, because each candidate is a process."""

    folder: str
    workload: str
    rows: int
    shop: str
    """SQLAlchemy URL of the source."""
    warehouses: dict[str, str]
    """SQLAlchemy URL of each candidate's own destination."""
    api_url: str

    @property
    def models(self) -> Path:
        return Path(self.folder) / "models"

    @property
    def model_file(self) -> Path:
        return self.models / self.workload.lower() / "1" / "model.ubj"

    @staticmethod
    def read(file: str) -> "Place":
        return Place(**json.loads(Path(file).read_text(encoding="utf-8")))

    def write(self) -> Path:
        file = Path(self.folder) / "place.json"
        file.write_text(json.dumps(asdict(self)), encoding="utf-8")
        return file
