"""What the pages work with, built once at the start of a server."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

from penstock.access.token_file import TokenFile
from penstock.database.connections import Connector, Database
from penstock.errors import DatabaseLocked, PipelineNotFound, RunNotFound, SpecError
from penstock.ledger.known_ledgers import refuse_lost
from penstock.ledger.reader import RunRecord, find_run
from penstock.models.registry import Registry
from penstock.privacy.masking import make_masking
from penstock.run.partition_options import PartitionOptions
from penstock.serving.background import SNAPSHOT_AGAIN
from penstock.serving.released import release_files, released
from penstock.serving.served_pipeline import ServedPipeline
from penstock.settings import Settings
from penstock.spec.pipeline import Pipeline
from penstock.spec.sources import SqlSource
from penstock.web.parsed_files import ParsedFiles

BUSY_SECONDS = 3.0
"""How long a page waits for a file that another process has open."""
_RETRY_SECONDS = 0.1


@dataclass(frozen=True)
class WebContext:
    """The project that the pages show, and who may see and change it."""

    settings: Settings
    connect: Connector
    """Opens databases and files."""
    registry: Registry
    tokens: TokenFile
    needs_token: bool
    """Whether a page is shown only to who has signed in. On loopback, reading needs no token."""
    hosts: tuple[str, ...]
    """Names and addresses under which the server may be asked, in small letters and without port."""
    session_key: bytes = field(repr=False)
    """Signs sessions. All processes of one server have the same."""
    is_secure: bool = False
    """Whether browsers reach the server by TLS."""
    prefect_api: str | None = None
    """API of the Prefect server that has the deployments. None: there is none."""
    prefect_ui: str | None = None
    """Address of Prefect's UI for browsers."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    served: dict[str, ServedPipeline] = field(default_factory=dict, init=False, repr=False)
    """By name: pipelines whose models are open, because a row of them was tried."""
    _snapshot_failures: dict[str, float] = field(default_factory=dict, init=False, repr=False)
    """By name: when the rows of the other sources could not be read. Monotonic seconds."""
    _parsed: ParsedFiles = field(default_factory=ParsedFiles, init=False, repr=False)
    _locks: dict[str, Lock] = field(default_factory=dict, init=False, repr=False)
    _serving: dict[str, Lock] = field(default_factory=dict, init=False, repr=False)

    @property
    def zone(self) -> str:
        return self.settings.timezone

    def load(self, name: str) -> Pipeline:
        """Read the pipeline of a name, which is in the file of that name or in another one of the folder.

        Raises:
            PipelineNotFound: there is none.
            SpecError: the file of that name has mistakes.
        """
        files = self._files()
        own = [file for file in files if file.stem == name]
        for file in (*own, *files):
            try:
                pipeline = self._parsed.load(file)
            except SpecError:
                if file in own:
                    raise
                continue
            if pipeline.name == name:
                return pipeline
        raise PipelineNotFound(name, str(self.settings.pipelines), tuple(each.stem for each in files))

    def load_all(self) -> tuple[list[Pipeline], list[SpecError]]:
        """Read the pipelines of the folder by name, and the errors of those that do not load."""
        sound, broken = [], []
        for file in self._files():
            try:
                sound.append(self._parsed.load(file))
            except SpecError as error:
                broken.append(error)
        return sound, broken

    def _files(self) -> list[Path]:
        files = sorted(self.settings.pipelines.glob("*.yaml"))
        self._parsed.drop_others(files)
        return files

    @contextmanager
    def open(self, name: str) -> Iterator[Database]:
        """Yield a warehouse. A file that one process at a time can open is closed at the end.

        Raises:
            DatabaseLocked: another process has the file open for longer than `BUSY_SECONDS`.
            LedgerLost: the project has had a ledger, and the warehouse has none or another one.
        """
        database = self.connect(name)
        if not database.sql.one_process:
            refuse_lost(database, self.settings.home)
            yield database
            return
        lock = self._locks.setdefault(name, Lock())
        if not lock.acquire(timeout=BUSY_SECONDS):
            raise DatabaseLocked(name, "another page reads it")
        try:
            with released(database):
                _wait_for_file(database)
                refuse_lost(database, self.settings.home)
                yield database
        finally:
            lock.release()

    def serve(self, pipeline: Pipeline) -> ServedPipeline:
        """Return the pipeline with the models that its aliases name now. They stay open for the next time.

        Raises:
            DatabaseLocked: another process has a file open for longer than `BUSY_SECONDS`.
            DatabaseUnavailable: a database does not answer.
        """
        with self._serving.setdefault(pipeline.name, Lock()):
            served = self.served.get(pipeline.name)
            if served is None or served.pipeline.fingerprint != pipeline.fingerprint:
                options = PartitionOptions(make_masking(pipeline, self.settings), self.settings.statement_seconds)
                served = ServedPipeline(pipeline, self.connect, self.registry, options)
                self.served[pipeline.name] = served
                self._snapshot_failures.pop(pipeline.name, None)
            if served.scorer is None:
                self._take_first_models(served)
            else:
                self._take_due_snapshot(served)
                served.take_models()
        return served

    def _take_first_models(self, served: ServedPipeline) -> None:
        """Open the models. This reads the types of the columns, so wait for files that a run has open."""
        sources = served.pipeline.sources.values()
        with self.open_of(served.pipeline), self.open_sources() as connect:
            for name in dict.fromkeys(source.connection for source in sources if isinstance(source, SqlSource)):
                _wait_for_file(connect(name))
            self._take_due_snapshot(served)
            served.take_models()

    def _take_due_snapshot(self, served: ServedPipeline) -> None:
        """Read the rows of the other sources, if the pipeline holds them and they are older than its `refresh`.

        This is not tried again at once if it fails, for a page asks with each letter that one types.
        """
        snapshot, failed = served.snapshot, self._snapshot_failures.get(served.name)
        age = None if snapshot is None else snapshot.age(self.now())
        is_due = age is None or age >= served.limits.refresh.total_seconds()
        waits = failed is not None and time.monotonic() - failed < SNAPSHOT_AGAIN
        if served.pipeline.holds_snapshot and is_due and not waits and not served.take_snapshot(self.now):
            self._snapshot_failures[served.name] = time.monotonic()

    @contextmanager
    def open_sources(self) -> Iterator[Connector]:
        """Yield what opens sources. Files that one process at a time can open are closed at the end."""
        with release_files(self.connect) as connect:
            yield connect

    @contextmanager
    def open_of(self, pipeline: Pipeline) -> Iterator[Database]:
        """Yield the warehouse of a pipeline."""
        with self.open(pipeline.destination.connection) as database:
            yield database

    def warehouses(self) -> list[str]:
        """Return the connections that pipelines write to, the default one first."""
        return list(dict.fromkeys(["warehouse", *(each.destination.connection for each in self.load_all()[0])]))

    @contextmanager
    def open_run(self, run_id: str) -> Iterator[tuple[Database, RunRecord]]:
        """Yield a run and its warehouse.

        Raises:
            RunNotFound: no warehouse has it.
        """
        for name in self.warehouses():
            with self.open(name) as database:
                try:
                    run = find_run(database, run_id)
                except RunNotFound as error:
                    if error.matches:
                        raise
                    continue
                yield database, run
                return
        raise RunNotFound(run_id)


def _wait_for_file(database: Database) -> None:
    """Wait until the file can be opened."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            with database.reading():
                return
        except DatabaseLocked:
            if time.monotonic() > until:
                raise
            time.sleep(_RETRY_SECONDS)
