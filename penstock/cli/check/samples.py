"""Sample rows of each source, to test the features query and the model's features."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from penstock.cli.check.report import CheckReport
from penstock.errors import NoFiles, SettingsError
from penstock.wording import plural

if TYPE_CHECKING:
    import pyarrow as pa

    from penstock.database.connections import Connector
    from penstock.interval import DataInterval
    from penstock.sources.logs.declared_columns import DeclaredColumns
    from penstock.spec.pipeline import Pipeline
    from penstock.spec.sources import LogSource

ROWS = 200


@dataclass(frozen=True)
class Sample:
    """Rows of one source."""

    rows: "pa.Table"
    is_whole: bool
    """Whether these are all rows of the interval."""


@dataclass(frozen=True)
class Sampler:
    """Reads a sample of a pipeline's sources, from one interval if it has rows."""

    pipeline: "Pipeline"
    interval: "DataInterval | None"
    connect: "Connector"
    report: CheckReport

    def sample(self, name: str) -> Sample:
        """Return up to `ROWS` rows of a source, and report which ones.

        Raises:
            PenstockError: the source cannot be read.
        """
        from penstock.spec.sources import LogSource

        source, subject = self.pipeline.sources[name], f"source `{name}`"
        if isinstance(source, LogSource):
            fresh = self._fresh_lines(name, source)
            if fresh is not None:
                return Sample(fresh, is_whole=False)
        rows = self._read(name, self.interval)
        where, is_whole = f"of {self.interval.label}" if self.interval else "of all", rows.num_rows < ROWS
        if not rows.num_rows and self.interval is not None and name == self.pipeline.primary:
            self.report.note(subject, f"no rows in {self.interval.label}")
            is_whole = False
            with suppress(NoFiles):  # a path with the interval cannot match all files
                rows, where = self._read(name, None), "of other intervals"
        self.report.ok(subject, f"{plural(rows.num_rows, 'row')} {where} read as a sample")
        return Sample(rows, is_whole)

    def _read(self, name: str, interval: "DataInterval | None") -> "pa.Table":
        from penstock.sources import open_source

        return open_source(self.pipeline, name, self.connect).read(interval, limit=ROWS)

    def _fresh_lines(self, name: str, source: "LogSource") -> "pa.Table | None":
        """Parse lines of the files without landing them. None if there is no file."""
        import pyarrow as pa
        import pyarrow.compute as pc

        from penstock.errors import BrokenArchive
        from penstock.sources.logs.declared_columns import DeclaredColumns
        from penstock.sources.logs.files import read_new_lines
        from penstock.sources.logs.formats import compile_format, compile_layout
        from penstock.sources.logs.line_groups import group_lines
        from penstock.sources.logs.plausible import read_times
        from penstock.spec.sources import ROW_ID

        parser, subject = compile_format(source), f"source `{name}`"
        declared = DeclaredColumns(name, tuple(source.columns), parser)
        broken, sample = list[BrokenArchive](), None
        roots, layout = self.connect.allowed_roots, compile_layout(source)
        try:
            for batch in read_new_lines(name, source.path, [], roots, layout=layout, set_aside=broken.append):
                if not len(batch.lines):
                    continue
                times = read_times(name, source, parser, batch, None)
                declared.see(batch.lines.filter(pc.is_valid(times)))
                sample = sample or (batch, times)
                if not declared.unseen:
                    break
        except NoFiles:
            return None
        for error in broken:
            self.report.note(subject, f"{error.file} is set aside: {error.reason}")
        if sample is None:
            return None
        self._find_landed(name, declared)
        batch, times = sample
        bad = times.null_count
        result = f"{plural(len(batch.lines), 'line')} of {batch.file.path} read, {bad:,} do not match the format"
        if bad > source.max_malformed * len(batch.lines):
            self.report.problem(subject, f"{result}: more than `max_malformed` {source.max_malformed:g}")
        else:
            self.report.ok(subject, result)
        first = pc.indices_nonzero(pc.is_valid(times))
        first = first if source.group else first[:ROWS]
        rows = parser.parse(batch.lines.take(first), times.take(first))
        if source.group:
            return group_lines(name, rows, source.group).slice(0, ROWS)
        ids = [f"{batch.file.file_id}:{offset}" for offset in batch.offsets.take(first).to_pylist()]
        return rows.append_column(ROW_ID, pa.array(ids, pa.string()))

    def _find_landed(self, name: str, declared: "DeclaredColumns") -> None:
        """Refuse declared columns that neither the files nor the landed lines have."""
        import sqlalchemy as sa

        from penstock.sources.logs.landed import landed_table

        database = self.connect(self.pipeline.destination.connection)
        table = landed_table(self.pipeline.name, name)
        if declared.unseen:
            with database.reading() as connection:
                is_landed = sa.inspect(connection).has_table(table.name)
            if is_landed:
                declared.find_landed(database, table)
        declared.refuse_unseen()


def choose_interval(
    pipeline: "Pipeline", now: datetime, start: datetime | None, end: datetime | None
) -> "DataInterval | None":
    """Return the newest interval that is over and touches the range. Without a range, the newest one of all.

    Raises:
        SettingsError: no interval touches the range, or the pipeline has none.
    """
    from penstock.ledger.coverage import NOTHING_DONE
    from penstock.run.planning import PlanRequest, plan_intervals

    if start is None and end is None:
        return newest_interval(pipeline, now)
    request = PlanRequest(pipeline, NOTHING_DONE, now, lambda _: "", "backfill", start, end, whole=True)
    touched = plan_intervals(request).intervals
    if not touched:
        raise SettingsError(
            f"no interval of `{pipeline.name}` that is over touches the range",
            "Give another --start and --end, or leave them out.",
        )
    return touched[-1].interval


def newest_interval(pipeline: "Pipeline", now: datetime) -> "DataInterval | None":
    """Return the newest due interval, or the first one if none is due. None for a snapshot."""
    from penstock.interval import DataInterval

    spec = pipeline.interval
    if spec is None:
        return None
    end = max(spec.grid.align_down(now - spec.delay), spec.grid.next(spec.start))
    return DataInterval(spec.grid.previous(end), end, spec.timezone)
