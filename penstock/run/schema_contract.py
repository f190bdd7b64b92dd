"""Compare a source's columns, and the outputs, with those of the last published run. See docs/adr/0009.

Columns are compared by name and by the few types that rows have. The columns that a run has seen become the contract
when it is published. A log source has no contract: the spec defines its columns.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import sqlalchemy as sa

from penstock.database.bulk import read
from penstock.database.connections import Connector
from penstock.errors import Halted, NoFiles
from penstock.interval import DataInterval
from penstock.ledger.migrations import migrate
from penstock.ledger.schema_contracts import OUTPUTS, read_contract, record_columns
from penstock.ledger.writer import CONTRACT_STAGE, record_validations
from penstock.run_types import ScoringRun, Validation, interval_label
from penstock.sources.files import POSITION, files_relation
from penstock.sources.relation import Relation
from penstock.sources.sql import sql_relation
from penstock.spec.pipeline import ROW_ID, SCORES, ColumnSource, FilesSource, Pipeline, SqlSource

CONTRACT = "contract"
NUMBER, NOTHING = "number", "nothing"
"""Types of text files' columns: a number, whole or not; and a column without a value in these files."""
_NO_COLUMNS = {"contract", "private", "every", "lookback"}
"""Keys of a source that do not define where its columns come from."""
_NAMES = {pa.string(): "text", pa.int64(): "int", pa.float64(): "float", pa.bool_(): "bool", pa.date32(): "date"}


@dataclass(frozen=True)
class Difference:
    """A column that changed. `was` is None for an added column, `now` for one that is gone."""

    column: str
    was: str | None
    now: str | None
    used: bool

    @property
    def text(self) -> str:
        if self.was is None:
            return f"`{self.column}` ({self.now}) was added"
        return f"`{self.column}` was {self.was} and is " + ("gone" if self.now is None else f"{self.now} now")

    def stops(self, rule: Literal["evolve", "freeze"]) -> bool:
        return rule == "freeze" or (self.used and self.was is not None)


@dataclass(frozen=True)
class Comparison:
    """The columns of one source, or the outputs, compared with their contract."""

    source: str
    rule: Literal["evolve", "freeze"]
    definition: str
    columns: dict[str, str]
    known: bool
    """Whether there is a contract. Without one these columns become it."""
    differences: tuple[Difference, ...]

    @property
    def subject(self) -> str:
        return "outputs" if self.source == OUTPUTS else f"source `{self.source}`"

    @property
    def halts(self) -> tuple[Difference, ...]:
        return tuple(d for d in self.differences if d.stops(self.rule))


def keep_contract(
    run: ScoringRun, connect: Connector, model_columns: Sequence[str], outputs: Comparison | None = None
) -> None:
    """Compare every source and the outputs before a row is read. Record the differences and the new columns.

    Raises:
        Halted: a column that the pipeline uses is gone or has another type; under `freeze`, any difference; or an
            output is gone.
    """
    pipeline, warehouse = run.pipeline, connect(run.pipeline.destination.connection)
    compared = [*compare_sources(pipeline, run.interval, connect, model_columns), *([outputs] if outputs else [])]
    found = [_validation(c, d) for c in compared for d in c.differences]
    if found:
        record_validations(warehouse, run, found, CONTRACT_STAGE)
    refuse_breaks(pipeline, run.interval, compared)
    for c in compared:
        if c.differences or not c.known:
            record_columns(warehouse, pipeline.name, c.source, c.definition, c.columns, run.run_id)


def refuse_breaks(pipeline: Pipeline, interval: DataInterval | None, compared: Sequence[Comparison]) -> None:
    """Raise Halted if columns break a contract. The reasons name each of them."""
    stops = tuple(f"{c.subject}: {d.text}" for c in compared for d in c.halts)
    if stops:
        only_outputs = all(c.source == OUTPUTS for c in compared if c.halts)
        first = "promote a version that has them" if only_outputs else "fix the source"
        its = "the outputs of now" if only_outputs else "its columns"
        way_out = f"{first}, or accept {its} with `penstock check {pipeline.name} --accept`"
        raise Halted(pipeline.name, interval_label(interval), (*stops, way_out))


def accept_columns(
    pipeline: Pipeline, interval: DataInterval | None, connect: Connector, outputs: Comparison | None = None
) -> tuple[Comparison, ...]:
    """Make the sources' columns and the outputs of now the contract. Return the differences."""
    warehouse = connect(pipeline.destination.connection)
    migrate(warehouse)
    compared = (*compare_sources(pipeline, interval, connect, ()), *([outputs] if outputs else []))
    for c in compared:
        record_columns(warehouse, pipeline.name, c.source, c.definition, c.columns)
    return compared


def compare_sources(
    pipeline: Pipeline, interval: DataInterval | None, connect: Connector, model_columns: Sequence[str]
) -> Iterator[Comparison]:
    """Compare each SQL and files source with its contract. An interval without files is skipped."""
    warehouse = connect(pipeline.destination.connection)
    for name, source in pipeline.sources.items():
        if not isinstance(source, SqlSource | FilesSource):
            continue
        seen = _columns(name, source, interval, connect, pipeline.timezone)
        if seen is None:
            continue
        definition = _definition(source)
        known = read_contract(warehouse, pipeline.name, name, definition)
        if known is not None:
            seen = {c: known.get(c, kind) if kind == NOTHING else kind for c, kind in seen.items()}
        used = used_columns(pipeline, name, {*seen, *(known or ())}, model_columns)
        differences = () if known is None else tuple(_differences(known, seen, used))
        yield Comparison(name, source.contract, definition, seen, known is not None, differences)


def compare_outputs(
    pipeline: Pipeline,
    connect: Connector,
    outputs: Mapping[str, str],
    read_before: Callable[[], Mapping[str, str] | None],
) -> Comparison:
    """Compare the outputs with those that the last published run gave into the same table.

    A new output only adds a column. One that is gone would be NULL for its readers.

    Args:
        outputs: the outputs of now, with their types.
        read_before: returns those of the last published run, if the ledger has no contract of them.
    """
    place = pipeline.destination
    definition = f"{place.schema_ or ''}.{place.table}"
    known = read_contract(connect(place.connection), pipeline.name, OUTPUTS, definition)
    contract = read_before() if known is None else known
    # A type that changes is no matter of the contract: the history table refuses it by name.
    was = {name: outputs.get(name, kind) for name, kind in (contract or outputs).items()}
    differences = tuple(_differences(was, outputs, set(was)))
    return Comparison(OUTPUTS, "evolve", definition, dict(outputs), known is not None, differences)


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
    name: str, source: SqlSource | FilesSource, interval: DataInterval | None, connect: Connector, zone: str
) -> dict[str, str] | None:
    # Without the event time: it would be cast, which hides a change of its type.
    if isinstance(source, SqlSource):
        relation = sql_relation(name, source, connect(source.connection), None, interval)
        return {f.name: _type_name(f.type) for f in _schema(relation)}
    try:
        with files_relation(name, source, None, interval, connect.allowed_roots, zone=zone) as relation:
            found = {f.name: _type_name(f.type) for f in _schema(relation) if f.name not in (ROW_ID, POSITION)}
            return found if source.format == "parquet" else _of_text_files(relation, found)
    except NoFiles:
        return None


def _schema(relation: Relation) -> pa.Schema:
    return read(relation.database, sa.select(*relation.columns).limit(0), relation.declared).schema


def _of_text_files(relation: Relation, found: dict[str, str]) -> dict[str, str]:
    """Loosen guessed types: a day of whole amounts is no change, and a column without a value has no type."""
    texts = [c for c, kind in found.items() if kind == "text"]
    filled = sa.select(*(sa.func.count(relation.rows.c[c]) for c in texts)).select_from(relation.rows)
    with relation.database.reading() as connection:
        counts = connection.execute(filled).one() if texts else ()
    empty = {c for c, number in zip(texts, counts, strict=True) if not number}
    return {c: NOTHING if c in empty else NUMBER if kind in ("int", "float") else kind for c, kind in found.items()}


def _type_name(kind: pa.DataType) -> str:
    return _NAMES.get(kind, "timestamp")


def _differences(known: Mapping[str, str], seen: Mapping[str, str], used: set[str]) -> Iterator[Difference]:
    for column in dict.fromkeys((*known, *seen)):
        was, now = known.get(column), seen.get(column)
        if was != now and not (was == NOTHING and now is not None):
            yield Difference(column, was, now, column in used)


def _definition(source: ColumnSource) -> str:
    """Return a fingerprint of where the columns come from: an edit of the spec is a change on purpose."""
    body = source.model_dump(mode="json", exclude=_NO_COLUMNS, by_alias=True)
    return hashlib.sha256(json.dumps(body, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _validation(compared: Comparison, difference: Difference) -> Validation:
    halts = difference in compared.halts
    outcome: Literal["halted", "noted"] = "halted" if halts else "noted"
    label = f"{CONTRACT}: {compared.rule}"
    severity: Literal["critical", "info"] = "critical" if halts else "info"
    # The label names the column, so that differences of one source are not added up.
    stage = SCORES if compared.source == OUTPUTS else compared.source
    return Validation(stage, f"{label} {difference.column}", severity, 0, 0, outcome, difference.text, CONTRACT_STAGE)
