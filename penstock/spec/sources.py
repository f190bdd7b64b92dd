"""The sources of a spec: their keys, kind by kind."""

import re
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, field_validator, model_validator

from penstock.object_urls import is_remote, parse_url
from penstock.spec.column_types import DeclaredType, TypeName
from penstock.spec.dialects import CsvDialect, JsonDialect
from penstock.spec.documents import DOCUMENTS, DocumentOptions
from penstock.spec.expression import read_expression
from penstock.spec.parts import (
    MAX_NAME,
    Column,
    ConnectionName,
    Duration,
    Identifier,
    Part,
    SchemaName,
    TimeZone,
    compile_regex,
    twin_names,
)
from penstock.spec.query_text import parameters_in
from penstock.spec.steps import SqlExpression

ROW_ID = "_row_id"
"""Key column of a source without a key: file and offset, or file and row number. It is the same in every read."""

Masking = Literal["hash", "drop"]


class RowSource(Part):
    """Keys that all kinds of sources have."""

    private: dict[Column, Masking] = Field(default_factory=dict, examples=[{"email": "hash", "note": "drop"}])
    """Private columns. Quarantine, run cards, logs and error messages contain a hash of the value, or drop it."""


ContractRule = Literal["evolve", "freeze"]


class ColumnSource(RowSource):
    """Keys of sources whose columns another team may change."""

    contract: ContractRule = Field(default="evolve", examples=["freeze"])
    """What happens when a column is added, removed or changes its type. `evolve` halts the run if the pipeline uses the
    column, `freeze` halts it for any column."""


class SqlSource(ColumnSource):
    """Rows of a table or a query in a SQL database. Give either `table` or `query`."""

    kind: Literal["sql"] = Field(examples=["sql"])
    """Kind of the source."""
    connection: ConnectionName = Field(examples=["shop"])
    """Name of the connection. Its URL is in the setting `PENSTOCK_CONNECTIONS__<NAME>`."""
    table: Identifier | None = Field(default=None, examples=["payments"])
    """Table or view, spelled as in the database."""
    schema_: SchemaName | None = Field(default=None, alias="schema", examples=["sales"])
    """Schema of the table. Without it the table is in the default schema of the connection."""
    query: str | None = Field(default=None, min_length=1, examples=["select * from payments where status <> 'test'"])
    """A select instead of a table. It may use `:interval_start` and `:interval_end`, and no other parameter."""
    key: tuple[Column, ...] = Field(default=(), max_length=8, examples=[["payment_id"]])
    """Columns that identify a row. The primary source needs them. Partitions are cut along the first one."""
    updated_column: Column | None = Field(default=None, examples=["updated_at"])
    """Column with the time of a row's last change. With it, `lookback` finds changed rows as well as new ones."""

    @model_validator(mode="after")
    def _table_or_query(self) -> Self:
        if (self.table is None) == (self.query is None):
            raise ValueError("give either `table` or `query`")
        if self.query is not None and self.schema_ is not None:
            raise ValueError("`schema` goes with `table`; write it inside the query")
        if self.query is not None:
            parameters_in(self.query)
        return self


class RegexFormat(Part):
    """A log format given by a regular expression."""

    regex: str = Field(examples=[r"(?P<time>\S+) (?P<level>\w+) (?P<text>.*)"])
    """Regular expression with named groups. Each group becomes a column, and one group must be named `time`."""
    time_format: str | None = Field(default=None, examples=["%d/%b/%Y:%H:%M:%S %z"])
    """`strptime` format of the group `time`, or `epoch_s`, `epoch_ms`, `epoch_us`, `epoch_ns` for numbers since 1970.
    Without it the time is ISO 8601, or a number whose size tells its unit. A format without a year takes it from the
    file's time, or from `year`."""

    @field_validator("regex")
    @classmethod
    def _has_named_groups(cls, value: str) -> str:
        if "time" not in compile_regex(value).groupindex:
            raise ValueError("the regular expression needs a group named `time`: `(?P<time>…)`")
        return value


class JsonTime(Part):
    """The event time of JSON lines."""

    key: str = Field(min_length=1, max_length=200, examples=["time_local"])
    """Key of the time. A dot leads into an object."""
    format: str | None = Field(default=None, min_length=1, max_length=60, examples=["%d/%b/%Y:%H:%M:%S %z"])
    """As `time_format` of a regular expression."""


def quote_column(name: str) -> str:
    """Write a column's name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def _read_key(value: Any) -> Any:
    return {c: quote_column(c) for c in value if isinstance(c, str)} if isinstance(value, list | tuple) else value


_COLUMN_NAME = {"type": "string", "minLength": 1, "maxLength": MAX_NAME}
GroupKey = Annotated[
    dict[Column, SqlExpression],
    BeforeValidator(_read_key),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "items": _COLUMN_NAME},
                {"type": "object", "additionalProperties": {"type": "string"}},
            ]
        }
    ),
]


class LogGroup(Part):
    """Rows made of several lines: one for each key and interval, such as a session, a client or an hour."""

    key: GroupKey = Field(
        min_length=1, max_length=8, examples=[["session"], {"client": "host", "hour": "date_trunc('hour', time)"}]
    )
    """Columns of the lines, or DuckDB expressions over a line by name. All lines of an interval with the same values
    make up one row."""
    time: Literal["min", "max"] = Field(default="min", examples=["min"])
    """Whether `time` of the row is that of its first or of its last line in the interval."""
    columns: dict[Column, str] = Field(
        default_factory=dict, max_length=100, examples=[{"requests": "count(*)", "bytes": "sum(size)"}]
    )
    """Further columns of the row: DuckDB aggregates over the columns of its lines."""

    @field_validator("key")
    @classmethod
    def _key_names_are_free(cls, value: dict[str, str]) -> dict[str, str]:
        if taken := twin_names([*value, "time", ROW_ID]):
            raise ValueError(
                f"`{taken[0]}` cannot be a column of the key twice, or beside `time`; give it another name"
            )
        return value

    @field_validator("columns")
    @classmethod
    def _columns_are_aggregates(cls, value: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        for column, expression in value.items():
            if twin_names([*info.data.get("key", ()), "time", ROW_ID, column]):
                raise ValueError(f"`{column}` is already a column of the group; give it another name")
            read_expression(expression, aggregate=True)
        return value


class LogSource(RowSource):
    """Lines of log files. Each line is copied into the warehouse once and read from there."""

    kind: Literal["log"] = Field(examples=["log"])
    """Kind of the source."""
    path: str = Field(min_length=1, max_length=1000, examples=["logs/access.log*"])
    """Path or glob of the files, rotated ones and those in .gz, .bz2, .xz and .zst included."""
    format: Literal["combined", "common", "json", "syslog", "w3c"] | RegexFormat = Field(examples=["combined"])
    """Format of a line: one of the names, or a regular expression."""
    columns: dict[Column, Literal["string", "int", "float", "bool", "timestamp"]] = Field(
        default_factory=dict, examples=[{"user": "string", "duration_ms": "float"}]
    )
    """Columns and their types. For JSON lines: the keys that become columns, with a dot for a nested one, as in
    `process.pid`. For `w3c`: the fields that become columns. For a regular expression: the types of its groups, which
    are text without this."""
    time: JsonTime | None = Field(default=None, examples=[{"key": "time_local", "format": "%d/%b/%Y:%H:%M:%S %z"}])
    """Event time of JSON lines. Without it: the first of the keys `time`, `timestamp`, `ts` and `@timestamp`."""
    timezone: TimeZone | None = Field(default=None, examples=["Europe/Berlin"])
    """IANA time zone of times without an offset. Without it they are UTC. In the repeated hour of autumn a time is read
    as its first occurrence, and the run card has the number of such lines."""
    year: int | None = Field(default=None, ge=1990, le=9999, examples=[2016])
    """For times without a year: the year of each file's first line. Later lines go on across New Year. Without it the
    year is the latest in which the time is not after the file's."""
    record_start: str | None = Field(default=None, min_length=1, examples=[r"\[\d{4}-"])
    """Regular expression that the first line of each record begins with. Lines that do not begin so continue the record
    before, as in a stack trace. Without it each line is a record."""
    group: LogGroup | None = Field(
        default=None, examples=[{"key": ["session"], "time": "min", "columns": {"requests": "count(*)"}}]
    )
    """Makes one row of all lines of an interval that have the same key. Without it each line is a row."""
    lookback: Duration = Field(default=timedelta(0), examples=["1d"])
    """As a secondary source: how far before the start of the interval its rows are read."""
    max_malformed: float = Field(default=0.01, ge=0, le=1, examples=[0.001])
    """Largest share of unreadable lines. Above it the run halts."""

    @field_validator("path")
    @classmethod
    def _is_local(cls, value: str) -> str:
        if is_remote(value):
            raise ValueError("a log source reads local files; copy the logs to a folder, or read them as `kind: files`")
        return value

    @field_validator("record_start")
    @classmethod
    def _begins_a_line(cls, value: str | None) -> str | None:
        if value is not None:
            begins_all = compile_regex(value).match("") is not None
            if begins_all:
                raise ValueError("the expression takes an empty line, so every line would begin a record")
        return value

    @model_validator(mode="after")
    def _records_have_several_lines(self) -> Self:
        if self.record_start is not None and self.format in ("combined", "common", "w3c"):
            raise ValueError(f"each line of `format: {self.format}` is a record; leave `record_start` out")
        return self

    @property
    def key(self) -> tuple[str, ...]:
        return tuple(self.group.key) if self.group else (ROW_ID,)


_MOST_PIECES = 1000
_INTERVAL_PLACE = re.compile(r"\{interval_(?:start|end)(?::[^{}]{1,40})?\}")


class FilesSource(ColumnSource):
    """Rows of Parquet, CSV or JSON files, whose columns are matched by name, or documents, which are one row each."""

    kind: Literal["files"] = Field(examples=["files"])
    """Kind of the source."""
    path: str = Field(min_length=1, max_length=1000, examples=["sales/{interval_start:%Y-%m-%d}.csv"])
    """Path or glob of the files, or their URL: `s3://`, `gs://`, `az://` or `https://`. It may contain the start and
    the end of the interval in braces."""
    connection: ConnectionName | None = Field(default=None, examples=["lake"])
    """Name of the connection with the options of an object store. They are in the setting
    `PENSTOCK_CONNECTIONS__<NAME>`. Without it they are read from the variables of the store's own tools."""
    format: Literal["parquet", "csv", "json", "text", "blob"] = Field(examples=["parquet"])
    """Format of the files. `json` means one JSON object a line. With `text` and `blob` each file is a row, with the
    columns `path`, `time`, `size` and `modified`, and `text` or `sha256` and `media_type`."""
    every: Duration | None = Field(default=None, examples=["1d"])
    """Span of time in one file, for a path with the interval in it. With `1d`, an interval of a week reads
    seven files. Files that do not exist are skipped."""
    lookback: Duration = Field(default=timedelta(0), examples=["7d"])
    """As a secondary source: how far before the start of the interval its files are read. Needs `every`. Documents need
    it only if the path contains the interval; without `lookback` all those from before the end are read."""
    key: tuple[Column, ...] = Field(default=(ROW_ID,), max_length=8, examples=[["order_id"]])
    """Columns that identify a row. By default the key is made of file and row number. For documents it is `path`."""
    columns: dict[Column, TypeName | DeclaredType] = Field(
        default_factory=dict, examples=[{"postcode": "string", "paid_at": {"type": "timestamp", "format": "%m/%d/%Y"}}]
    )
    """Columns and their types, for columns whose type the files do not show: codes of digits, dates like `03/01/2026`,
    epoch numbers. Types of other columns of CSV and JSON files are guessed until an interval is published. From then
    on they are the contract, by which later files are read."""
    text: tuple[Column, ...] = Field(
        default=(), max_length=100, examples=[["postcode"]], json_schema_extra={"deprecated": True}
    )
    """Deprecated, use `columns: {postcode: string}`. Columns of CSV files that are always read as text."""
    csv: CsvDialect = Field(default=CsvDialect(), examples=[{"delimiter": ";", "decimal": ","}])
    """How CSV files are written. What is left out is guessed, and `penstock check` shows it."""
    json_: JsonDialect = Field(default=JsonDialect(), alias="json", examples=[{"records": "array"}])
    """How JSON files are written. What is left out is guessed, and `penstock check` shows it."""
    documents: DocumentOptions = Field(default=DocumentOptions(), examples=[{"encoding": "cp1252"}])
    """For `text` and `blob`: the encoding, and where the path has the time."""
    timezone: TimeZone = Field(default="UTC", examples=["Europe/Berlin"])
    """IANA time zone of timestamps without a zone in CSV and JSON files and in paths of documents. A row with a local
    time that the clock skips or shows twice is refused."""
    max_malformed: float = Field(default=0.01, ge=0, le=1, examples=[0.001])
    """Largest share of refused lines and records of CSV and JSON files, and of refused documents. Above it the run
    halts."""
    stray: Literal["note", "quarantine", "halt"] = Field(default="note", examples=["halt"])
    """What a run does with rows whose event time is outside the interval of their file: count them, keep them in
    quarantine, or halt."""

    @model_validator(mode="before")
    @classmethod
    def _documents_have_their_path_as_key(cls, data: Any) -> Any:
        is_document = isinstance(data, dict) and data.get("format") in DOCUMENTS and "key" not in data
        return data | {"key": ["path"]} if is_document else data

    @model_validator(mode="after")
    def _documents_have_fixed_columns(self) -> Self:
        if not self.is_documents:
            if self.documents.model_fields_set:
                raise ValueError("`documents` is for `format: text` and `format: blob`")
            return self
        if self.columns:
            raise ValueError(f"the columns of `format: {self.format}` are fixed; leave `columns` out")
        if self.format == "blob" and self.documents.encoding is not None:
            raise ValueError("a blob is not decoded; leave `encoding` out")
        return self

    @model_validator(mode="after")
    def _only_csv_guesses(self) -> Self:
        if self.text and self.format != "csv":
            raise ValueError(f"`text` is for csv files, whose types are guessed; a {self.format} file has its own")
        return self

    @model_validator(mode="after")
    def _a_dialect_is_of_its_format(self) -> Self:
        for key, stated in (("csv", self.csv), ("json", self.json_)):
            if key != self.format and stated.model_fields_set:
                raise ValueError(f"`{key}` says how {key} files are written, and `format` is `{self.format}`")
        return self

    @cached_property
    def declared_columns(self) -> dict[str, DeclaredType]:
        """The declared types, those of `text` included."""
        declared = {c: DeclaredType(type="string") for c in self.text}
        return declared | {c: DeclaredType(type=t) if isinstance(t, str) else t for c, t in self.columns.items()}

    @model_validator(mode="after")
    def _pieces_are_named_by_the_path(self) -> Self:
        if self.every is None:
            if self.lookback and (self.is_named_by_interval or not self.is_documents):
                raise ValueError("`lookback` reads whole files; set the time span of one file, as in `every: 1d`")
            return self
        if not _INTERVAL_PLACE.search(self.path):
            raise ValueError("`every` needs a path that contains the interval, as in `{interval_start:%Y-%m-%d}.csv`")
        if self.every <= timedelta(0) or self.lookback // self.every > _MOST_PIECES:
            raise ValueError(f"`every` must be longer than zero, and `lookback` at most {_MOST_PIECES:,} times as long")
        return self

    @property
    def is_documents(self) -> bool:
        """Whether each file is a row."""
        return self.format in DOCUMENTS

    @property
    def is_guessed(self) -> bool:
        """Whether what the files do not show is guessed, and then kept as the contract."""
        return self.format in ("csv", "json")

    @property
    def is_named_by_interval(self) -> bool:
        """Whether the path contains the interval."""
        return _INTERVAL_PLACE.search(self.path) is not None

    @property
    def is_one_file_an_interval(self) -> bool:
        """Whether the path is that of one interval, so that another grain names other files."""
        return self.every is None and self.is_named_by_interval

    @field_validator("path")
    @classmethod
    def _is_a_url_that_is_read(cls, value: str) -> str:
        if is_remote(value):
            parse_url(value)
        return value

    @model_validator(mode="after")
    def _a_connection_is_of_a_store(self) -> Self:
        if self.connection is not None and not is_remote(self.path):
            raise ValueError("`connection` is for a path in an object store, as in `s3://bucket/…`")
        return self

    @field_validator("path")
    @classmethod
    def _holds_only_the_interval(cls, value: str) -> str:
        if re.search(r"[{}]", _INTERVAL_PLACE.sub("", value)):
            raise ValueError(
                "the path takes `{interval_start:%Y-%m-%d}` and `{interval_end:…}` in braces, nothing else"
            )
        return value


class TableSource(ColumnSource):
    """Keys of tables in a lake. A run reads one version of the table, which is chosen when the run is planned."""

    key: tuple[Column, ...] = Field(default=(), max_length=8, examples=[["payment_id"]])
    """Columns that identify a row. The primary source needs them."""
    columns: dict[Column, TypeName | DeclaredType] = Field(
        default_factory=dict, examples=[{"paid_at": {"type": "timestamp", "format": "epoch_ms"}}]
    )
    """Types of columns that are text or numbers in the table and mean something else, such as an epoch time."""

    @cached_property
    def declared_columns(self) -> dict[str, DeclaredType]:
        """The declared types."""
        return {c: DeclaredType(type=t) if isinstance(t, str) else t for c, t in self.columns.items()}


class DeltaSource(TableSource):
    """Rows of a Delta Lake table. Needs Penstock's extra `delta`."""

    kind: Literal["delta"] = Field(examples=["delta"])
    """Kind of the source."""
    path: str = Field(min_length=1, max_length=1000, examples=["lake/payments"])
    """Folder of the table, the one that has `_delta_log`."""


class IcebergSource(TableSource):
    """Rows of an Apache Iceberg table in a SQL catalog. Needs Penstock's extra `iceberg`."""

    kind: Literal["iceberg"] = Field(examples=["iceberg"])
    """Kind of the source."""
    connection: ConnectionName = Field(examples=["catalog"])
    """Name of the connection to the catalog's database. Its URL is in the setting `PENSTOCK_CONNECTIONS__<NAME>`."""
    table: str = Field(pattern=r"^[^.]+(\.[^.]+)+$", max_length=500, examples=["sales.payments"])
    """Namespace and name of the table."""
    catalog: str | None = Field(default=None, min_length=1, max_length=255, examples=["lake"])
    """Name of the catalog. Needed only if several catalogs in the database have such a table."""


Source = Annotated[
    SqlSource | LogSource | FilesSource | DeltaSource | IcebergSource,
    Field(discriminator="kind"),
]
SourceName = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*$", max_length=24)]
