"""What a process that scores partitions has: packages, settings, models, databases and files.

The flow collects its own facts, and each worker of a cluster does so too. `tasks/agreement.py` compares them.
"""

import glob
import hashlib
import hmac
import os
import platform
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from itertools import islice
from pathlib import Path

import sqlalchemy as sa

import penstock
from penstock.database.connections import Database, embedded_file
from penstock.errors import OutsideRoots, PenstockError
from penstock.object_urls import is_remote
from penstock.privacy.masking import make_masking
from penstock.run_types import ModelPin, Pins
from penstock.seals.keys import read_seal_keys
from penstock.sources.allowed_paths import check_pattern
from penstock.spec.pipeline import Pipeline
from penstock.spec.sources import DeltaSource, FilesSource, SqlSource
from penstock.tasks.process_resources import connect, registry, settings

DECIDING = (
    *("xgboost", "numpy", "pandas", "pyarrow", "duckdb", "great-expectations", "scikit-learn"),
    *("sqlalchemy", "psycopg", "pymysql", "adbc-driver-manager", "adbc-driver-postgresql", "adbc-driver-sqlite"),
)
"""Packages that read, judge, score or store the values of rows. Another version may do so differently."""
CARRYING = ("prefect", "cloudpickle", "distributed", "ray")
"""Packages that only carry partitions to workers and receipts back."""
SAMPLED_FILES = 3
"""Files of a source that each worker must see too."""


@dataclass(frozen=True)
class Question:
    """What the flow asks each worker."""

    pipeline: Pipeline
    pins: Pins
    salt: bytes
    """New for each flow run. The digest of the secret depends on it."""
    folder: str
    """The flow's working folder."""
    files: Mapping[str, tuple[tuple[str, int], ...]]
    """By source: the paths and sizes of a few files that the flow sees."""


@dataclass(frozen=True)
class DatabaseFacts:
    """A named connection as a process has it. It contains no secret."""

    place: str
    """Where the database is, without user and password."""
    host: str
    """The URL's host. Empty for a file and for a local socket."""
    identity: str | None = None
    """The same from each machine. None: it is not known, or the database does not answer."""
    fault: str = ""
    """Why the database does not answer."""


@dataclass(frozen=True)
class WorkerFacts:
    """What a process has. Texts in `faults` say what it cannot do."""

    host: str
    folder: str
    """The working folder."""
    python: str
    packages: Mapping[str, str]
    """Versions by package. Empty for one that is not installed."""
    code: str
    """Digest of Penstock's own modules."""
    secret: str
    """Keyed digest of PENSTOCK_PRIVATE_KEY. Empty if the pipeline has no private columns."""
    seal_secret: str
    """Keyed digest of PENSTOCK_SEAL_KEY. Empty if the pipeline's rows are not sealed."""
    device: str
    statement_seconds: int
    databases: Mapping[str, DatabaseFacts]
    models: Mapping[str, str]
    """By model: why it cannot be loaded as the run's version. Empty: it can."""
    files: Mapping[str, str]
    """By source: why the flow's files cannot be read. Empty: they can."""
    fault: str = ""
    """Why nothing else is known: the settings cannot be read."""


def collect_facts(question: Question, with_blocks: bool = False) -> WorkerFacts:
    """Collect the facts of this process.

    Args:
        with_blocks: Whether connections in Prefect blocks are opened. A worker finds the server only in a task.
    """
    where = (socket.gethostname(), os.getcwd(), platform.python_version(), _read_versions(), code_digest())
    pipeline = question.pipeline
    try:
        here = settings()
        secret = make_masking(pipeline, here).secret if pipeline.private_columns else b""
        seal = read_seal_keys(here, f"`{pipeline.name}` seals its rows").current.secret if pipeline.seal else b""
    except PenstockError as error:
        return WorkerFacts(*where, "", "", "", 0, {}, {}, {}, str(error))
    names = sorted(
        {s.connection for s in pipeline.sources.values() if isinstance(s, SqlSource)}
        | {pipeline.destination.connection}
    )
    return WorkerFacts(
        *where,
        _digest(secret, question.salt),
        _digest(seal, question.salt),
        here.device,
        here.statement_seconds,
        {name: _find_database(name) for name in names if with_blocks or not _is_block(name)},
        {str(pin): _find_model_fault(pin) for pin in question.pins.values()},
        {name: _find_file_fault(question, name) for name in _file_sources(pipeline)},
    )


def _digest(secret: bytes, salt: bytes) -> str:
    return hmac.new(secret, salt, hashlib.sha256).hexdigest() if secret else ""


def sample_files(pipeline: Pipeline) -> dict[str, tuple[tuple[str, int], ...]]:
    """Return absolute paths and sizes of a few local files of each source."""
    return {name: tuple(_sample(pattern)) for name, pattern in _file_sources(pipeline).items()}


@lru_cache(maxsize=1)
def code_digest() -> str:
    """Return a digest of Penstock's modules: a version that is being developed changes without a new number."""
    folder = Path(penstock.__file__).parent
    digest = hashlib.sha256()
    found = (Path(at, name) for at, _, names in os.walk(folder, followlinks=True) for name in names)
    for file in sorted(file for file in found if file.suffix == ".py"):
        digest.update(f"{file.relative_to(folder)}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def _read_versions() -> dict[str, str]:
    versions = {name: _read_version(name) for name in (*DECIDING, *CARRYING)}
    return {"penstock": penstock.__version__, **versions}


def _read_version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _is_block(name: str) -> bool:
    here = settings()
    return name in here.urls and here.url_of(name).startswith("block:")


def _find_database(name: str) -> DatabaseFacts:
    try:
        database = connect(name)
    except PenstockError as error:
        return DatabaseFacts("", "", None, str(error))
    place, host = database.place, "" if database.sql.is_file else _host_of(database)
    try:
        database.require_file()
        return DatabaseFacts(place, host, _identify(database))
    except PenstockError as error:
        return DatabaseFacts(place, host, None, getattr(error, "reason", "") or str(error))


def _host_of(database: Database) -> str:
    named = database.url.host or database.url.query.get("host", "")
    host = named if isinstance(named, str) else named[0]
    return "" if host.startswith("/") else host


def _identify(database: Database) -> str | None:
    if file := embedded_file(database.url):
        found = file.stat()
        return f"{file} {found.st_dev} {found.st_ino}"
    with database.reading() as connection:
        connection.execute(sa.select(sa.literal(1)))
        return database.sql.identify(connection)


def _find_model_fault(pin: ModelPin) -> str:
    """Load a pinned version, which verifies its digest and its golden rows, and keeps it for the partitions."""
    try:
        registry().load(pin)
    except PenstockError as error:
        return str(error)
    return ""


def _file_sources(pipeline: Pipeline) -> dict[str, str]:
    """Return the pattern of each source of local files that partitions read."""
    found = {n: s.path for n, s in pipeline.sources.items() if isinstance(s, FilesSource | DeltaSource)}
    return {
        name: f"{path}/_delta_log/*" if isinstance(pipeline.sources[name], DeltaSource) else path
        for name, path in found.items()
        if not is_remote(path)
    }


def _sample(pattern: str) -> Iterator[tuple[str, int]]:
    every = re.sub(r"\{[^}]*\}", "*", pattern)
    files = (Path(found) for found in glob.iglob(every, recursive=True))
    for file in islice((file for file in files if file.is_file()), SAMPLED_FILES):
        yield str(file.absolute()), file.stat().st_size


def _find_file_fault(question: Question, name: str) -> str:
    """Return why this process does not see the files of a source as the flow does."""
    path = _file_sources(question.pipeline)[name]
    if not Path(path).is_absolute() and os.getcwd() != question.folder:
        return f"its path {path} is relative, and the worker's folder is {os.getcwd()}, not {question.folder}"
    try:
        check_pattern(name, path, settings().allowed_roots)
    except OutsideRoots as error:
        return str(error)
    for seen, size in question.files.get(name, ()):
        file = Path(seen)
        if not file.is_file():
            return f"there is no file {file}"
        if file.stat().st_size != size:
            return f"{file} is another file: it has {file.stat().st_size:,} bytes, not {size:,}"
    return ""
