"""Show what is guessed of text files, in the form that the spec takes."""

from typing import TYPE_CHECKING

from penstock.cli.check.report import CheckReport
from penstock.cli.check.write_spec import Guess
from penstock.object_urls import is_remote
from penstock.spec.sources import FilesSource
from penstock.spec.yaml_edit import write_flow

if TYPE_CHECKING:
    from datetime import datetime

    from penstock.database.connections import Connector
    from penstock.interval import DataInterval
    from penstock.sources.text.staging import Staged
    from penstock.spec.pipeline import Pipeline

_MOST_STEPS = 1_000
"""Intervals that are looked at for files."""
_MOST_REQUESTS = 100
"""Intervals that are looked at in an object store, where each takes a request or two."""


def show_guess(
    pipeline: "Pipeline", name: str, interval: "DataInterval | None", connect: "Connector", report: CheckReport
) -> Guess | None:
    """Report how a source's text files are read, as far as the spec does not say it. None for other sources.

    Raises:
        SourceError: the files cannot be read, or can be read in several ways.
    """
    from penstock.sources import open_files

    source = pipeline.sources[name]
    if not isinstance(source, FilesSource) or not source.is_guessed:
        return None
    reader = open_files(pipeline, name, source, connect)
    with reader.open(interval) as rows:
        staged = rows.staged
    if staged is None or not staged.rows:
        return None
    guess = Guess(staged.dialect, {c: kind for c, kind in staged.kinds.items() if c not in staged.nested})
    how = "by the contract" if reader.read_dialect() else "guessed"
    for key, entries in guess.entries(source).items():
        report.ok(f"source `{name}`", f"{how}, `{key}: {write_flow(entries)}`")
    _note_unclear(f"source `{name}`", source, staged, report)
    return guess


def _note_unclear(subject: str, source: FilesSource, staged: "Staged", report: CheckReport) -> None:
    """Note texts that may mean a missing value, in columns that do not show what they mean."""
    null = list(staged.dialect.null)
    for text, columns in staged.unclear.items():
        where = ", ".join(f"`{column}`" for column in columns[:6]) + (" and others" if len(columns) > 6 else "")
        if text in null:
            report.note(subject, f"`{text}` is NULL in {where} too, as it is in columns of numbers")
        elif source.csv.null is None:
            stated = write_flow({"null": [*null, text]})
            report.note(subject, f"`{text}` in {where} is text. If it means NULL, write `csv: {stated}`")


def newest_with_files(
    pipeline: "Pipeline", interval: "DataInterval | None", start: "datetime | None", connect: "Connector"
) -> "DataInterval | None":
    """Return the newest interval that has files, from this one back to the start. This one if none has."""
    from penstock.errors import NoFiles, PenstockError
    from penstock.interval import DataInterval, as_utc
    from penstock.sources.file_paths import matching_files, store_access

    spec = pipeline.interval
    sources = {n: s for n, s in pipeline.sources.items() if isinstance(s, FilesSource) and s.is_named_by_interval}
    if interval is None or spec is None or not sources:
        return interval
    name, source = next(iter(sources.items()))
    first, tried = max(spec.start, as_utc(start, spec.timezone)) if start else spec.start, interval
    for _ in range(_MOST_REQUESTS if is_remote(source.path) else _MOST_STEPS):
        try:
            access = store_access(source, connect)
            matching_files(name, source, tried, connect.allowed_roots, zone=pipeline.timezone, access=access)
        except NoFiles:
            if tried.start <= first:
                break
            tried = DataInterval(spec.grid.previous(tried.start), tried.start, tried.zone)
        except PenstockError:
            break  # the check of the source reports it
        else:
            return tried
    return interval
