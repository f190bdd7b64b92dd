"""Compare a source's columns, and the outputs, with those of the last published run. See docs/adr/0009.

Columns are compared by name and by the few types that rows have. The columns that a run has seen become the contract
when it is published, and text files are read by their contract's types. A log source has no contract: the spec defines
its columns.
"""

import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import pyarrow as pa
import sqlalchemy as sa

from penstock.database.bulk import read
from penstock.database.connections import Connector, Database
from penstock.errors import (
    AmbiguousDate,
    AmbiguousDialect,
    AmbiguousNumber,
    DialectChanged,
    Halted,
    MalformedRows,
    NoFiles,
    UnfitValue,
)
from penstock.interval import DataInterval
from penstock.ledger.migrations import has_ledger
from penstock.ledger.schema_contracts import (
    ACCEPTED,
    EVENT_TIME,
    OUTPUTS,
    TEXT,
    Contracts,
    dialect_entry,
    read_contracts,
    record_columns,
    source_definition,
)
from penstock.ledger.writer import CONTRACT_STAGE, record_validations
from penstock.run_types import ScoringRun, TableVersion, Validation, interval_label
from penstock.sources import open_files, open_lake
from penstock.sources.column_types import NOTHING
from penstock.sources.parquet import POSITION
from penstock.sources.relation import Relation
from penstock.sources.sql import sql_relation
from penstock.spec.parts import write_grain
from penstock.spec.pipeline import Pipeline
from penstock.spec.sources import ROW_ID, ColumnSource, DeltaSource, FilesSource, IcebergSource, LogSource, SqlSource
from penstock.spec.stages import SCORES
from penstock.wording import plural

CONTRACT = "contract"
_WAY_OUT = ("fix the source", "its columns")
_WAYS_OUT = {
    OUTPUTS: ("promote a version that has them", "the outputs of now"),
    EVENT_TIME: (
        "set it back, because rows could be shown twice or never",
        "the change (and restate all published intervals)",
    ),
}
"""What to do about a break of the contract, and what to accept."""
_DECIMAL = "decimal"
"""Versions before 0.2 called decimals `float`, so a change from that is none."""
_NAMES = {pa.string(): TEXT, pa.int64(): "int", pa.float64(): "float", pa.bool_(): "bool", pa.date32(): "date"}


@dataclass(frozen=True)
class Difference:
    """A column that changed. `was` is None for an added column, `now` for one that is gone."""

    column: str
    was: str | None
    now: str | None
    used: bool
    is_dialect: bool = False
    """Whether it is a fact of the dialect that the spec states now, or that a person accepts."""
    misfit: MalformedRows | DialectChanged | None = None
    """Text files that cannot be read by the contract: values of another type in too many rows, or another dialect."""

    @property
    def text(self) -> str:
        if isinstance(self.misfit, DialectChanged):
            return f"{self.misfit.file} line {self.misfit.line:,} has {self.now} instead of {self.was}"
        if self.misfit is not None:
            where = f"line {self.misfit.line:,} of {self.misfit.file} has `{self.misfit.value}`"
            rows = f"{self.misfit.refused:,} of {plural(self.misfit.rows, 'row')} cannot be read"
            return f"`{self.column}` was {self.was}, and {where} ({rows}, `max_malformed` is {self.misfit.limit:.2%})"
        if self.was is None:
            return f"`{self.column}` ({self.now}) was added"
        return f"`{self.column}` was {self.was} and is " + ("gone" if self.now is None else f"{self.now} now")

    def stops(self, rule: Literal["evolve", "freeze"]) -> bool:
        if self.is_dialect:
            return False
        return rule == "freeze" or self.misfit is not None or (self.used and self.was is not None)


@dataclass(frozen=True)
class Comparison:
    """The columns of one source, or the outputs, compared with their contract."""

    source: str
    rule: Literal["evolve", "freeze"]
    definition: str
    columns: dict[str, str]
    is_new: bool
    """Whether the columns are not those of the contract, and become it."""
    differences: tuple[Difference, ...]
    dialect: Mapping[str, str] = field(default_factory=dict)
    """The facts of how text files are written, which become part of the contract. Empty: without rows none is known."""

    @property
    def subject(self) -> str:
        return {OUTPUTS: "outputs", EVENT_TIME: "spec"}.get(self.source, f"source `{self.source}`")

    @property
    def halts(self) -> tuple[Difference, ...]:
        return tuple(d for d in self.differences if d.stops(self.rule))


def keep_contract(
    run: ScoringRun,
    connect: Connector,
    model_columns: Sequence[str],
    contracts: Contracts,
    outputs: Comparison | None = None,
) -> None:
    """Compare every source and the outputs before a row is read. Record the differences and the new columns.

    A sandbox reads its sources by the pipeline's contract, and changes nothing of it.

    Raises:
        Halted: a column that the pipeline uses is gone or has another type; under `freeze`, any difference; a text file
            cannot be read by its types; or an output is gone.
    """
    pipeline, warehouse = run.pipeline, connect(run.pipeline.destination.connection)
    try:
        sources = list(compare_sources(pipeline, run.interval, connect, model_columns, contracts))
    except (AmbiguousDate, AmbiguousDialect, AmbiguousNumber, UnfitValue, MalformedRows) as error:
        raise Halted(pipeline.name, run.label, (str(error),)) from None
    compared = [*sources, *compare_event_time(pipeline, contracts), *([outputs] if outputs else [])]
    found = [_validation(c, d) for c in compared for d in c.differences]
    found += [_note_version(name, version) for name, version in connect.versions.items()]
    if found:
        record_validations(warehouse, run, found, CONTRACT_STAGE)
    refuse_breaks(pipeline, run.interval, compared)
    for c in compared:
        if c.is_new and not pipeline.is_sandbox:
            _record(warehouse, pipeline.name, c, run.run_id)


def refuse_breaks(pipeline: Pipeline, interval: DataInterval | None, compared: Sequence[Comparison]) -> None:
    """Raise Halted if columns break a contract. The reasons name each of them."""
    stops = tuple(f"{c.subject}: {d.text}" for c in compared for d in c.halts)
    if stops:
        ways = {_WAYS_OUT.get(c.source, _WAY_OUT) for c in compared if c.halts}
        first, its = ways.pop() if len(ways) == 1 else _WAY_OUT
        way_out = f"{first}, or accept {its} with `penstock check {pipeline.name} --accept`"
        raise Halted(pipeline.name, interval_label(interval), (*stops, way_out))


def accept_columns(pipeline: Pipeline, interval: DataInterval | None, connect: Connector) -> tuple[Comparison, ...]:
    """Make the sources' columns and the event time of now the contract. Return the differences."""
    warehouse = connect(pipeline.destination.connection)
    contracts = read_contracts(warehouse, pipeline.name)
    sources = compare_sources(pipeline, interval, connect, (), contracts, guess_anew=True)
    compared = (*sources, *compare_event_time(pipeline, contracts))
    for c in compared if has_ledger(warehouse) else ():  # before the first run there is no contract
        _record(warehouse, pipeline.name, c)
    return compared


def _record(warehouse: Database, pipeline: str, c: Comparison, run_id: str = ACCEPTED) -> None:
    record_columns(warehouse, pipeline, c.source, c.definition, c.columns, run_id)
    if c.dialect:
        record_columns(warehouse, pipeline, dialect_entry(c.source), c.definition, c.dialect, run_id)


def accept_outputs(pipeline: Pipeline, connect: Connector, outputs: Comparison) -> None:
    """Make the outputs of now the contract."""
    warehouse = connect(pipeline.destination.connection)
    if has_ledger(warehouse):  # before the first run there is no contract
        record_columns(warehouse, pipeline.name, outputs.source, outputs.definition, outputs.columns)


def compare_sources(
    pipeline: Pipeline,
    interval: DataInterval | None,
    connect: Connector,
    model_columns: Sequence[str],
    contracts: Contracts,
    *,
    guess_anew: bool = False,
    names: Container[str] | None = None,
) -> Iterator[Comparison]:
    """Compare each SQL and files source with its contract. An interval without files is skipped.

    Args:
        guess_anew: guess the types of text files as if there were no contract.
        names: the sources to compare. Default: all.
    """
    for name, source in pipeline.sources.items():
        if isinstance(source, LogSource) or (names is not None and name not in names):
            continue
        definition = source_definition(source)
        known = contracts.find(name, definition)
        declared = {} if isinstance(source, SqlSource) else source.declared_columns
        written = contracts.find(dialect_entry(name), definition)
        try:
            found = _columns(
                pipeline, name, interval, connect, *(({}, {}) if guess_anew else (known or {}, written or {}))
            )
        except DialectChanged as error:
            misfit = Difference("", error.expected, error.found, True, misfit=error)
            yield Comparison(name, source.contract, definition, known or {}, False, (misfit,))
            continue
        except MalformedRows as error:
            if known is None or not error.column or error.column in declared:
                raise
            misfit = Difference(error.column, error.kind, None, True, misfit=error)
            yield Comparison(name, source.contract, definition, known, False, (misfit,))
            continue
        if found is None:
            continue
        seen, facts = found
        if known is None:
            yield Comparison(name, source.contract, definition, seen, True, (), facts)
            continue
        seen = {c: known.get(c, kind) if kind == NOTHING else kind for c, kind in seen.items()}
        used = used_columns(pipeline, name, {*seen, *known}, model_columns)
        differences = (*_differences(known, seen, used, declared), *_dialect_changes(source, written or {}, facts))
        is_new = seen != known or (bool(facts) and facts != written)
        yield Comparison(name, source.contract, definition, seen, is_new, differences, facts)


def _dialect_changes(source: ColumnSource, known: Mapping[str, str], facts: Mapping[str, str]) -> Iterator[Difference]:
    """Yield the facts of a dialect that are other ones now, because the spec states them or a person accepts them."""
    for fact in known:
        if isinstance(source, FilesSource) and fact in facts and known[fact] != facts[fact]:
            yield Difference(f"{source.format}.{fact}", known[fact], facts[fact], False, is_dialect=True)


def compare_event_time(pipeline: Pipeline, contracts: Contracts) -> Iterator[Comparison]:
    """Compare what decides the interval of a row with the last published run in the same table.

    With another column, a row that is published in one interval may lie in a later one too, or in none that is due.
    With another grain, a path with the interval in it may name only some of the files of an interval.
    """
    if pipeline.interval is None:
        return
    place = _place(pipeline)
    now = {"interval.column": pipeline.interval.column}
    if any(isinstance(s, FilesSource) and s.is_one_file_an_interval for s in pipeline.sources.values()):
        now["interval.grain"] = write_grain(pipeline.interval.grain)
    known = contracts.find(EVENT_TIME, EVENT_TIME) or {}
    was = {fact: known.get(f"{place} {fact}", value) for fact, value in now.items()}
    columns = known | {f"{place} {fact}": value for fact, value in now.items()}  # of all tables, also those of before
    differences = tuple(Difference(fact, was[fact], now[fact], True) for fact in now if was[fact] != now[fact])
    yield Comparison(EVENT_TIME, "evolve", EVENT_TIME, columns, columns != known, differences)


def compare_outputs(
    pipeline: Pipeline,
    contracts: Contracts,
    outputs: Mapping[str, str],
    read_before: Callable[[], Mapping[str, str] | None],
) -> Comparison:
    """Compare the outputs with those that the last published run gave into the same table.

    A new output only adds a column. One that is gone would be NULL for its readers.

    Args:
        outputs: the outputs of now, with their types.
        read_before: returns those of the last published run, if the ledger has no contract of them.
    """
    definition = _place(pipeline)
    known = contracts.find(OUTPUTS, definition)
    contract = read_before() if known is None else known
    # A type that changes is no matter of the contract: the history table refuses it by name.
    was = {name: outputs.get(name, kind) for name, kind in (contract or outputs).items()}
    differences = tuple(_differences(was, outputs, set(was), ()))
    return Comparison(OUTPUTS, "evolve", definition, dict(outputs), outputs != known, differences)


def _place(pipeline: Pipeline) -> str:
    return f"{pipeline.destination.schema_ or ''}.{pipeline.destination.table}"


def used_columns(pipeline: Pipeline, name: str, columns: set[str], model_columns: Sequence[str]) -> set[str]:
    """Return the columns of a source that the pipeline uses: by role, in expectations, in the features query."""
    source, primary = pipeline.sources[name], name == pipeline.primary
    needed = {*source.key, *(c for e in pipeline.expectations_of(name) for c in e.columns)}
    if isinstance(source, SqlSource) and source.updated_column:
        needed.add(source.updated_column)
    if primary:
        needed |= {*pipeline.destination.keep, *((pipeline.interval.column,) if pipeline.interval else ())}
        needed |= {pipeline.partition_by} if pipeline.partition_by else set()
    query = pipeline.features
    if query is None or "*" in query:  # a column that passes unnamed is used if a later stage needs it
        later = [
            e for stage in pipeline.expectations if stage not in pipeline.sources for e in pipeline.expectations[stage]
        ]
        needed |= {*model_columns, *(c for e in later for c in e.columns)} if query or primary else set()
    words = {word.casefold() for word in re.findall(r"\w+", query or "")}
    quoted = {word.replace('""', '"').casefold() for word in re.findall(r'"((?:[^"]|"")+)"', query or "")}
    known = {c.casefold() for c in needed} | words | quoted
    return {c for c in columns if c.casefold() in known}


def _columns(
    pipeline: Pipeline,
    name: str,
    interval: DataInterval | None,
    connect: Connector,
    known: Mapping[str, str],
    written: Mapping[str, str],
) -> tuple[dict[str, str], dict[str, str]] | None:
    """Return the columns of a source, and of text files with rows the facts of their dialect."""
    source = pipeline.sources[name]
    if isinstance(source, SqlSource):
        # Without the event time: it would be cast, which hides a change of its type.
        relation = sql_relation(name, source, connect(source.connection), None, interval)
        return {f.name: _type_name(f.type) for f in _schema(relation)}, {}
    if isinstance(source, DeltaSource | IcebergSource):
        with open_lake(pipeline, name, source, connect).open(None, limit=0) as rows:
            return {f.name: _type_name(f.type) for f in _schema(rows) if f.name != POSITION}, {}
    assert isinstance(source, FilesSource)
    reader = replace(
        open_files(pipeline, name, source, connect),
        read_types=lambda: dict(known),
        read_dialect=lambda: dict(written),
        empty_is_normal=False,
    )
    try:
        with reader.open(interval) as rows:
            if (staged := rows.staged) is not None:
                return dict(staged.kinds), staged.dialect.facts() if staged.rows else {}
            return {f.name: _type_name(f.type) for f in _schema(rows) if f.name not in (ROW_ID, POSITION)}, {}
    except NoFiles:
        return None


def _schema(relation: Relation) -> pa.Schema:
    return read(relation.database, sa.select(*relation.columns).limit(0), relation.declared).schema


def _type_name(kind: pa.DataType) -> str:
    if pa.types.is_decimal(kind):
        return _DECIMAL
    return _NAMES.get(kind, "timestamp")


def _differences(
    known: Mapping[str, str], seen: Mapping[str, str], used: set[str], declared: Container[str]
) -> Iterator[Difference]:
    for column in dict.fromkeys((*known, *seen)):
        was, now = known.get(column), seen.get(column)
        if (was, now) == ("float", _DECIMAL):
            continue
        if was != now and not (was == NOTHING and now is not None) and not _only_adds_a_format(was, now):
            # A declared type is a change on purpose.
            yield Difference(column, was, now, column in used and not (now is not None and column in declared))


def _only_adds_a_format(was: str | None, now: str | None) -> bool:
    """Whether a contract of 0.1, which does not say how times are written, gets the format."""
    return was in ("date", "timestamp") and now is not None and now.partition(" ")[0] == was


def _note_version(name: str, version: TableVersion) -> Validation:
    return Validation(name, "version", "info", 0, 0, "noted", version.text, CONTRACT_STAGE)


def _validation(compared: Comparison, difference: Difference) -> Validation:
    halts = difference in compared.halts
    outcome: Literal["halted", "noted"] = "halted" if halts else "noted"
    label = f"{CONTRACT}: {compared.rule}"
    severity: Literal["critical", "info"] = "critical" if halts else "info"
    # The label names the column, so that differences of one source are not added up.
    stage = {OUTPUTS: SCORES, EVENT_TIME: CONTRACT}.get(compared.source, compared.source)
    return Validation(stage, f"{label} {difference.column}", severity, 0, 0, outcome, difference.text, CONTRACT_STAGE)
