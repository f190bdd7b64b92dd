"""A project in Python: its settings, pipelines, databases, models and runs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import sqlalchemy as sa

from penstock.api.features import read_past_features
from penstock.api.scoring import score_claimed
from penstock.database.connections import Connector, Database, close_engines, open_database, read_connection
from penstock.database.types import UtcDateTime
from penstock.errors import MissingTable
from penstock.interval import as_utc
from penstock.ledger.reader import RunRecord, find_published, find_run, list_runs, validations_of
from penstock.models.registry import Registry, open_registry
from penstock.privacy.masking import make_masking
from penstock.report.document import RunDocument, read_document
from penstock.run.extract import land_logs
from penstock.run.planning import Mode, Plan, PlannedInterval
from penstock.run_types import Validation, interval_key
from penstock.scoring_steps import ScoringSteps
from penstock.settings import Settings, load_settings
from penstock.sources.text.staged_folders import staging_folder
from penstock.spec.pipeline import Pipeline
from penstock.spec.sandbox import as_sandbox
from penstock.spec.steps import choose_models
from penstock.spec.yaml_file import find_pipeline_file, load_pipeline

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ScoredInterval:
    """The result of scoring one interval: counts, findings, and the rows on request.

    Every row that was read is in one of the counts: `extracted = scored + quarantined + excluded`.
    """

    run_id: str
    """The run that published the interval."""
    state: Literal["published", "skipped"]
    """skipped: the interval was already published, and nothing was done. The counts are from that run."""
    extracted: int
    """Rows of the primary source that were read."""
    scored: int
    """Rows with a score."""
    quarantined: int
    """Rows that an expectation or the model refused."""
    excluded: int
    """Rows that the features query left out."""
    validations: tuple[Validation, ...]
    """One finding for each expectation, the worst first."""
    _project: "Project" = field(repr=False, compare=False)
    _pipeline: Pipeline = field(repr=False, compare=False)

    def to_arrow(self) -> pa.Table:
        """Read the run's live rows: key, scores, kept columns, and the columns about the run."""
        return self._project.read_scores(self._pipeline, run_id=self.run_id)

    def to_pandas(self) -> "pd.DataFrame":
        """Read the run's live rows as a pandas frame. See `to_arrow`."""
        return self.to_arrow().to_pandas()


@dataclass(frozen=True)
class Project:
    """The project in the working folder: its settings, pipelines, databases, models and runs.

    Relative paths in the settings and pipelines start at the working folder, as on the command line.
    No Prefect server is needed.

    Args:
        settings: Default: from the environment and `.env` in the working folder.

    Example:
        >>> project = Project()
        >>> pipeline = project.load_pipeline("card-risk")
        >>> for planned in project.plan(pipeline).intervals:
        ...     print(project.score_interval(pipeline, planned).scored)
    """

    settings: Settings = field(default_factory=load_settings)

    @property
    def registry(self) -> Registry:
        """The model store."""
        return open_registry(self.settings, self._read_value, self.settings.device)

    def connect(self, name: str) -> Database:
        """Open a named connection. Its engine is shared in this process.

        Raises:
            SettingsError: no setting names the connection, or its value is no database URL.

        Example:
            >>> with project.connect("shop").reading() as connection:
            ...     connection.execute(sa.text("select count(*) from payments")).scalar()
        """
        return open_database(self.settings, name)

    def close(self) -> None:
        """Close every pooled connection of this process. Later calls open new ones."""
        close_engines()

    def query(self, connection: str, statement: "str | sa.Select[Any]") -> pa.Table:
        """Read the rows of a select as Arrow.

        Every database gives the same types: bool, int64, float64, string, date32 and `timestamp[us, UTC]`. SQLite has
        no types of its own; a SQLAlchemy select over typed columns supplies them.

        Args:
            connection: Name of a connection.
            statement: SQL text, or a SQLAlchemy select.

        Raises:
            SourceError: the database refused the statement.

        Example:
            >>> project.query("shop", "select payment_id, fraud from frauds")
        """
        from penstock.database.bulk import read

        if isinstance(statement, str):
            statement = statement.rstrip().removesuffix(";")
            escaped = statement.replace(":", "\\:")  # SQLAlchemy would read `:word` as a parameter
            statement = sa.select(sa.text("*")).select_from(sa.text(f"({escaped}\n) as penstock_query"))
        return read(self.connect(connection), statement)

    def load_pipeline(self, name: str | Path, *, sandbox: str = "") -> Pipeline:
        """Read a pipeline of the project.

        Args:
            name: Name of a file in the pipelines folder, without `.yaml`, or the path of any file.
            sandbox: Name of a sandbox. `plan`, `score_interval` and `read_scores` then work in it, and readers of the
                pipeline see nothing of it.

        Raises:
            PipelineNotFound: there is no such file; the message lists the existing pipelines.
            SpecError: the file is not a pipeline; the message has every problem with its line.
            SandboxRefused: a sandbox cannot have the name.
        """
        pipeline = load_pipeline(find_pipeline_file(str(name), self.settings.pipelines))
        return as_sandbox(pipeline, sandbox) if sandbox else pipeline

    def plan(
        self,
        pipeline: Pipeline,
        mode: Mode = "due",
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        now: datetime | None = None,
    ) -> Plan:
        """Decide which intervals to score, and why.

        New lines of log sources are landed in the warehouse first, and runs whose process died are given up. Nothing
        else is written.

        Args:
            mode: due = missing intervals and those that late rows changed; backfill = missing intervals of a range;
                restate = all intervals of a range again; release = intervals with rows released from quarantine.
            start, end: Take only intervals that touch `[start, end)`; naive means the pipeline's time zone.
            now: The time that decides what is due, aware. Default: the clock's.

        Returns:
            `intervals`, oldest first, each with its `reason`, and counts of the other ones.

        Raises:
            LedgerLost: the project has had a ledger, and the warehouse has none or another one.
            Halted: a column of the source is gone or has another type.
            SettingsError: a snapshot pipeline is given a range, or a restate is given none.

        Example:
            >>> [(planned.label, planned.reason) for planned in project.plan(pipeline).intervals]
        """
        steps = self._steps(pipeline)
        steps.open_ledger()
        land_logs(pipeline, self._connector)
        steps.abandon_dead_runs()
        steps.settle_served()
        return steps.plan(now or datetime.now(UTC), mode, start, end)

    def score_interval(
        self, pipeline: Pipeline, planned: PlannedInterval, *, model: str = "", partition_rows: int | None = None
    ) -> ScoredInterval:
        """Score one interval and publish it, exactly once, as the flow does.

        The call takes the same lease in the same ledger as a flow, so that only one of several calls and flows scores
        the interval. A call that fails or is killed publishes nothing, and the next call scores the interval.
        Partitions are scored one after another in this process.

        Args:
            planned: One of `plan(pipeline).intervals`.
            model: name@alias or name@version instead of the pipeline's own; with several models,
                `step=name@version`, separated by commas.
            partition_rows: Most rows of a partition. Default: the pipeline's own.

        Raises:
            Halted: a gate refused the interval; nothing was published. The run and its findings stay in the ledger:
                `list_runs`, `read_run`.
            IntervalBusy: another run holds the interval.
            TransientError: a database did not answer or was locked. Call again.
            TakenOver: the lease was lost, and another run took over.
            ModelError: the model does not exist, or its file has changed.

        Example:
            >>> result = project.score_interval(pipeline, project.plan(pipeline).intervals[0])
            >>> result.scored, result.quarantined
            >>> result.to_pandas()
        """
        steps = self._steps(pipeline)
        pins = {step: self.registry.resolve(ref) for step, ref in choose_models(pipeline.steps, model).items()}
        run = steps.claim(planned, pins, challengers=steps.pin_challengers(pins))
        if run is None:
            live = find_published(steps.warehouse, pipeline, interval_key(planned.interval))
            return self._scored(pipeline, live, "skipped")
        score_claimed(steps, run, partition_rows)
        return self._scored(pipeline, find_run(steps.warehouse, run.run_id), "published")

    def read_scores(
        self,
        pipeline: Pipeline,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        run_id: str | None = None,
    ) -> pa.Table:
        """Read the live rows that readers of the destination see.

        Args:
            start, end: Take only rows of intervals that touch `[start, end)`; naive means the pipeline's time zone.
            run_id: Take only rows of this run. There are none if another run superseded it.

        Returns:
            The columns of the view `destination.table`: key, scores, kept columns, then `interval_start`,
            `interval_end`, `model_name`, `model_version`, `model_digest`, `scored_at` and `run_id`. Sorted by
            interval and key.

        Raises:
            MissingTable: nothing has been scored yet.

        Example:
            >>> project.read_scores(pipeline).to_pandas()["score"].describe()
        """
        from penstock.database.bulk import read

        warehouse = self.connect(pipeline.destination.connection)
        return read(warehouse, _select_live(warehouse, pipeline, start, end, run_id))

    def list_runs(self, pipeline: Pipeline, limit: int = 50, states: Sequence[str] = ()) -> list[RunRecord]:
        """Return the pipeline's runs in the ledger, the newest first.

        Args:
            states: Only runs in these states: running, audited, published, superseded, withdrawn,
                halted, failed, abandoned.

        Example:
            >>> [(run.interval_key, run.state, run.rows_scored) for run in project.list_runs(pipeline)]
        """
        return list_runs(self.connect(pipeline.destination.connection), pipeline.name, limit, states)

    def read_run(self, pipeline: Pipeline, run_id: str) -> RunDocument:
        """Return what the ledger has about one run: partitions, validations, quarantine, related runs.

        Args:
            run_id: The ID, or enough of its first characters.

        Raises:
            RunNotFound: no run in the ledger has such an ID, or several have.
        """
        warehouse = self.connect(pipeline.destination.connection)
        return read_document(warehouse, find_run(warehouse, run_id))

    def read_features(
        self,
        pipeline: Pipeline,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        step: timedelta | None = None,
    ) -> pa.Table:
        """Build the features of past rows for training, with the pipeline's own sources and features query.

        Rows are not validated, and nothing is published. New lines of log sources are landed first.

        Args:
            start, end: Event time of the primary rows, `[start, end)`; naive means the pipeline's time zone. Leave them
                out for a snapshot.
            step: Event time to read at once, limited by memory. Default: the pipeline's grain.

        Returns:
            One row for each key: the key, the features and the kept columns.

        Raises:
            SourceError: a source is not as declared.
            FeaturesError: the features query fails.
            SettingsError: the range is missing or empty.

        Example:
            >>> features = project.read_features(pipeline, datetime(2026, 1, 1), datetime(2026, 2, 1))
            >>> labelled = features.join(labels, "payment_id", join_type="inner")
        """
        if any(source.kind == "log" for source in pipeline.sources.values()):
            self._steps(pipeline).open_ledger()  # the landed lines are in the warehouse
        return read_past_features(pipeline, self._connector, start, end, step, self.settings.statement_seconds)

    def _steps(self, pipeline: Pipeline) -> ScoringSteps:
        masking = make_masking(pipeline, self.settings)
        return ScoringSteps(pipeline, self.settings, self._connector, self.registry, masking)

    @property
    def _connector(self) -> Connector:
        return Connector(
            self.connect,
            self.settings.allowed_roots,
            staging_folder(self.settings.home),
            read_value=self._read_value,
        )

    def _read_value(self, name: str) -> str:
        return read_connection(self.settings, name)

    def _scored(self, pipeline: Pipeline, run: RunRecord, state: Literal["published", "skipped"]) -> ScoredInterval:
        return ScoredInterval(
            run.run_id,
            state,
            run.rows_extracted or 0,
            run.rows_scored or 0,
            run.rows_quarantined or 0,
            run.rows_excluded or 0,
            tuple(validations_of(self.connect(pipeline.destination.connection), run.run_id)),
            self,
            pipeline,
        )


def _select_live(
    warehouse: Database, pipeline: Pipeline, start: datetime | None, end: datetime | None, run_id: str | None
) -> "sa.Select[Any]":
    name, schema = pipeline.destination.table, pipeline.destination.schema_
    with warehouse.reading() as connection:
        inspector = sa.inspect(connection)
        if not inspector.has_table(name, schema=schema):
            raise MissingTable(warehouse.name, name, ())
        columns = inspector.get_columns(name, schema=schema)
    view = sa.table(name, *(sa.column(c["name"], c["type"]) for c in columns), schema=schema)
    query = sa.select(view).order_by(view.c.interval_start, *(view.c[name] for name in pipeline.key))
    zone = pipeline.timezone
    if start is not None:
        query = query.where(view.c.interval_end > sa.bindparam(None, as_utc(start, zone), UtcDateTime))
    if end is not None:
        query = query.where(view.c.interval_start < sa.bindparam(None, as_utc(end, zone), UtcDateTime))
    return query if run_id is None else query.where(sa.cast(view.c.run_id, sa.Text) == run_id)
