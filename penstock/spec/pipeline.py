"""What a pipeline is: one frozen object, written as YAML (`spec_file`) or built in Python."""

import hashlib
import json
import re
from datetime import datetime, timedelta
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from penstock.errors import nearest
from penstock.spec.expectation_types import AGGREGATE_TYPES, ALL_TYPES, ROW_TYPES, ExpectationType, Severity
from penstock.spec.expression import read_expression
from penstock.spec.parts import (
    Budget,
    Column,
    ConnectionName,
    Duration,
    Identifier,
    Notify,
    Part,
    Retention,
    Schedule,
    SchemaName,
    TableName,
    UtcDatetime,
)
from penstock.spec.steps import (
    ModelRef,
    ScoreStep,
    SqlExpression,
    check_columns,
    check_decisions,
    is_output,
    order_steps,
)

FEATURES = "features"
SCORES = "scores"
MODEL = "model"
"""The stage of rows that the model itself cannot take, such as an unseen category."""
KEY_IS_NULL = "the key is NULL"
ROW_ID = "_row_id"
"""Key of a source that has none: file and offset, or file and row number, stable across reads."""


class IntervalSpec(Part):
    """Which spans of event time are scored, and when each is due."""

    column: Column
    """Event time in the primary source."""
    grain: Duration
    """Length of a data interval."""
    start: UtcDatetime
    """Where the first interval begins; a value without zone is UTC."""
    delay: Duration = timedelta(0)
    """How long after its end an interval is due."""
    settle: Literal["delay", "horizon"] = "delay"
    """horizon: due only once no transaction is open that began before the delay was over (Postgres)."""
    lookback: int = Field(default=0, ge=0, le=1000)
    """How many published intervals behind the newest are watched for late rows."""
    catch_up: Literal["all", "latest"] = "all"
    """Score all missed intervals, or only the latest."""
    max_intervals: int = Field(default=32, ge=1, le=10_000)
    """Intervals at most in one run, oldest first."""

    @field_validator("grain")
    @classmethod
    def _grain_is_positive(cls, value: timedelta) -> timedelta:
        if value <= timedelta(0):
            raise ValueError("a grain must be longer than zero")
        return value

    @field_validator("start")
    @classmethod
    def _start_is_whole_seconds(cls, value: datetime) -> datetime:
        if value.microsecond:
            raise ValueError("the start must be a whole second")
        return value


Masking = Literal["hash", "drop"]


class RowSource(Part):
    """What all kinds of sources have."""

    private: dict[Column, Masking] = Field(default_factory=dict)
    """Columns whose values are hashed or dropped in quarantine, run cards, logs and error texts."""


ContractRule = Literal["evolve", "freeze"]


class ColumnSource(RowSource):
    """What sources have whose columns are somebody else's."""

    contract: ContractRule = "evolve"
    """When columns come, go or change their type: evolve halts for those that are used, freeze for any."""


class SqlSource(ColumnSource):
    """Rows of a table, or of a query, of a SQL database."""

    kind: Literal["sql"]
    connection: ConnectionName
    table: Identifier | None = None
    """Table or view, spelled as the database spells it."""
    schema_: SchemaName | None = Field(default=None, alias="schema")
    """Schema of the table, where it is not the default one."""
    query: str | None = Field(default=None, min_length=1)
    """A select instead of a table; may use `:interval_start` and `:interval_end`."""
    key: tuple[Column, ...] = Field(default=(), max_length=8)
    """Columns that identify a row; required of the primary source. Partitions are cut along the first."""
    updated_column: Column | None = None
    """Time of the last change of a row; sharpens the watch for late rows."""

    @model_validator(mode="after")
    def _table_or_query(self) -> Self:
        if (self.table is None) == (self.query is None):
            raise ValueError("give either `table` or `query`")
        if self.query is not None and self.schema_ is not None:
            raise ValueError("`schema` goes with `table`; write it inside the query")
        return self


class RegexFormat(Part):
    """Log lines taken apart by a regular expression with named groups; one of them is `time`."""

    regex: str
    time_format: str | None = None
    """strptime format of the group `time`; ISO 8601 where left out."""

    @field_validator("regex")
    @classmethod
    def _has_named_groups(cls, value: str) -> str:
        try:
            groups = re.compile(value).groupindex
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        if "time" not in groups:
            raise ValueError("the regular expression needs a group named `time`: `(?P<time>…)`")
        return value


class LogSource(RowSource):
    """Lines of log files, landed once each in the warehouse and read from there."""

    kind: Literal["log"]
    path: str = Field(min_length=1, max_length=1000)
    """Path or glob; rotated and gzipped files belong to it."""
    format: Literal["combined", "common", "json", "syslog"] | RegexFormat
    columns: dict[Column, Literal["string", "int", "float", "bool", "timestamp"]] = Field(default_factory=dict)
    """Keys of JSON lines that become columns, or types of a regular expression's groups (text where left out)."""
    lookback: Duration = timedelta(0)
    """How far before the interval its rows reach, as a secondary source."""
    max_malformed: float = Field(default=0.01, ge=0, le=1)
    """More than this share of unreadable lines: halt."""

    @property
    def key(self) -> tuple[str, ...]:
        return (ROW_ID,)


_MOST_PIECES = 1000
_INTERVAL_PLACE = re.compile(r"\{interval_(?:start|end)(?::[^{}]{1,40})?\}")


class FilesSource(ColumnSource):
    """Rows of Parquet, CSV or JSON-lines files, columns united by name."""

    kind: Literal["files"]
    path: str = Field(min_length=1, max_length=1000)
    """Path or glob; may hold the interval: `sales/{interval_start:%Y-%m-%d}.csv`."""
    format: Literal["parquet", "csv", "json"]
    every: Duration | None = None
    """How much time one file of an interval path holds, as in `1d`: a week then reads seven, those that are there."""
    lookback: Duration = timedelta(0)
    """How far before the interval its files reach, as a secondary source; needs `every`."""
    key: tuple[Column, ...] = Field(default=(ROW_ID,), max_length=8)
    """Columns that identify a row; where left out, file and row number are the key."""
    text: tuple[Column, ...] = Field(default=(), max_length=100)
    """Columns of CSV files that are text whatever the files at hand show: numbers of which few have a letter."""

    @model_validator(mode="after")
    def _only_csv_guesses(self) -> Self:
        if self.text and self.format != "csv":
            raise ValueError(f"`text` is for csv files, whose types are guessed; a {self.format} file tells its own")
        return self

    @model_validator(mode="after")
    def _pieces_are_named_by_the_path(self) -> Self:
        if self.every is None:
            if self.lookback:
                raise ValueError("`lookback` goes from file to file; say how much time one holds, as in `every: 1d`")
            return self
        if not _INTERVAL_PLACE.search(self.path):
            raise ValueError("`every` needs a path that holds the interval, as in `{interval_start:%Y-%m-%d}.csv`")
        if self.every <= timedelta(0) or self.lookback // self.every > _MOST_PIECES:
            raise ValueError(f"`every` must be longer than zero, and `lookback` at most {_MOST_PIECES:,} times as long")
        return self

    @field_validator("path")
    @classmethod
    def _holds_only_the_interval(cls, value: str) -> str:
        if re.search(r"[{}]", _INTERVAL_PLACE.sub("", value)):
            raise ValueError(
                "the path takes `{interval_start:%Y-%m-%d}` and `{interval_end:…}` in braces, nothing else"
            )
        return value


Source = Annotated[SqlSource | LogSource | FilesSource, Field(discriminator="kind")]
SourceName = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*$", max_length=24)]


class Expectation(Part):
    """One expectation in Great Expectations' own words, with a severity."""

    type: ExpectationType
    severity: Severity = "critical"
    """critical halts the run, warning quarantines the rows, info makes a note."""
    arguments: dict[str, Any] = Field(default_factory=dict)

    model_config = ConfigDict(
        json_schema_extra=lambda schema: (
            schema["properties"].pop("arguments"),
            schema.update(additionalProperties=True),
        )[-1]
    )

    @model_validator(mode="before")
    @classmethod
    def _gather_arguments(cls, data: Any) -> Any:
        if not isinstance(data, dict) or isinstance(data.get("arguments"), dict):
            return data
        named = {k: v for k, v in data.items() if k in ("type", "severity")}
        return named | {"arguments": {k: v for k, v in data.items() if k not in named}}

    @field_validator("type", mode="before")
    @classmethod
    def _type_is_known(cls, value: Any) -> Any:
        if value not in ALL_TYPES:
            named = str(value)[:100]
            raise ValueError(f"unknown expectation type `{named}`.{nearest(named, ALL_TYPES)}")
        return value

    @model_validator(mode="after")
    def _reaction_is_possible(self) -> Self:
        if self.severity == "warning" and not self.is_row:
            raise ValueError(
                f"`{self.type}` speaks of the whole interval and cannot quarantine rows; make it critical or info"
            )
        if self.severity == "warning" and "mostly" in self.arguments:
            raise ValueError("`mostly` does not go with severity warning; the share is `quarantine_limit`")
        return self

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        return {"type": self.type, "severity": self.severity, **self.arguments}

    @property
    def is_row(self) -> bool:
        """Whether it judges single rows, and so runs on every partition."""
        return self.type in ROW_TYPES

    @property
    def is_aggregate(self) -> bool:
        """Whether it judges the values of whole columns, in the audit."""
        return self.type in AGGREGATE_TYPES

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it reads."""
        single = [self.arguments[k] for k in ("column", "column_A", "column_B") if k in self.arguments]
        return tuple(str(c) for c in (*single, *self.arguments.get("column_list", ())))

    @property
    def label(self) -> str:
        """The expectation in one line, as tables show it."""
        rest = ", ".join(f"{k}={v!r}" for k, v in self.arguments.items() if k not in ("column", "column_list"))
        where = ", ".join(self.columns)
        return " ".join(
            part for part in (where, self.type.removeprefix("expect_"), f"({rest})" if rest else "") if part
        )


class Destination(Part):
    """Where the scores go."""

    connection: ConnectionName = "warehouse"
    table: TableName
    """Name of the view that shows the live rows; the rows lie in `<table>__history`."""
    schema_: SchemaName | None = Field(default=None, alias="schema")
    keep: tuple[Column, ...] = ()
    """Columns of the features (or of the primary source) carried along with the score."""


class Pipeline(Part):
    """One pipeline: sources, features, expectations, model, destination, schedule."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=36)
    description: str = ""
    interval: IntervalSpec | None = None
    """Left out: a snapshot pipeline, every run scores the whole source."""
    schedule: Schedule | None = None
    notify: Notify = Notify()
    sources: dict[SourceName, Source] = Field(min_length=1)
    """The first is the primary one: its rows are what is scored."""
    features: str | None = Field(default=None, min_length=1)
    """DuckDB SQL over the sources, one row per key; must judge each primary row by itself."""
    private: dict[Column, Masking] = Field(default_factory=dict)
    """Columns of the features that are private under another name than in their source."""
    expectations: dict[str, tuple[Expectation, ...]] = Field(default_factory=dict)
    """By stage: a source's name, `features`, `scores`."""
    quarantine_limit: float = Field(default=0.05, ge=0, le=1)
    """More than this share of the interval's rows refused: halt."""
    empty: Literal["halt", "publish"] = "halt"
    """What an interval without any row does."""
    audit_rows: int = Field(default=1_000_000, ge=1000)
    """Aggregate expectations judge all rows up to this many, beyond it a uniform sample."""
    model: ModelRef | None = None
    """The model, where one scores; its outputs keep their names: `score`."""
    models: tuple[ScoreStep, ...] = Field(default=(), max_length=16)
    """Instead of `model`: the steps of inference, where a model gates another or takes its outputs."""
    destination: Destination
    decide: dict[Column, SqlExpression] = Field(default_factory=dict, max_length=32)
    """Columns made after the last step: name and DuckDB expression over features, outputs and the columns before it."""
    retention: Retention = Retention()
    budget: Budget = Budget()
    partition_rows: int = Field(default=250_000, ge=1)

    @field_validator("sources")
    @classmethod
    def _source_names_are_free(cls, value: dict[str, Source]) -> dict[str, Source]:
        taken = {FEATURES, SCORES, MODEL} & set(value)
        if taken:
            raise ValueError(f"a source cannot be named `{taken.pop()}`; that name is a stage")
        primary = next(iter(value.values()))
        if not primary.key:
            raise ValueError(
                f"the primary source `{next(iter(value))}` needs a `key:`, the columns that identify a row"
            )
        return value

    @field_validator("models")
    @classmethod
    def _steps_have_an_order(cls, value: tuple[ScoreStep, ...], info: ValidationInfo) -> tuple[ScoreStep, ...]:
        order_steps(value)
        outputs = tuple(f"{step.name}_score" for step in value)
        for step in value:
            needed = {c for c in step.reads if not is_output(c, [s.name for s in value])}
            check_columns(f"step `{step.name}`", needed, outputs, info.data.get("features"))
        return value

    @model_validator(mode="after")
    def _a_model_or_steps(self) -> Self:
        if (self.model is None) == (not self.models):
            raise ValueError("give either `model`, or `models` as a list of steps")
        return self

    @field_validator("decide")
    @classmethod
    def _decisions_follow_what_they_take(cls, value: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        if "models" in info.data:  # else they are told already, and what they would give is not known
            check_decisions(value, info.data["models"], info.data.get("features"))
        return value

    @model_validator(mode="after")
    def _decided_columns_are_new(self) -> Self:
        taken = {c.casefold() for c in (*self.key, *self.destination.keep)}
        for column in self.decide:
            if column.casefold() in taken:
                raise ValueError(
                    f"`decide` makes `{column}`, which the key or `keep` has already; give it another name"
                )
        return self

    @model_validator(mode="after")
    def _log_lines_go_by_their_time(self) -> Self:
        if self.interval and isinstance(self.primary_source, LogSource) and self.interval.column != "time":
            raise ValueError("the event time of a log source is `time`; write `interval: {column: time, …}`")
        return self

    @model_validator(mode="after")
    def _a_snapshot_needs_all_its_lines(self) -> Self:
        if self.interval is None and self.retention.log_lines is not None:
            raise ValueError(
                "a snapshot pipeline reads all landed lines each time; take `log_lines` out of `retention`"
            )
        return self

    @model_validator(mode="after")
    def _horizon_is_a_databases(self) -> Self:
        if self.interval and self.interval.settle == "horizon" and not isinstance(self.primary_source, SqlSource):
            raise ValueError("`settle: horizon` asks a Postgres database: the primary source must be `kind: sql`")
        return self

    @model_validator(mode="after")
    def _stages_exist(self) -> Self:
        stages = (*self.sources, FEATURES, SCORES)
        for stage in self.expectations:
            if stage not in stages:
                raise ValueError(f"expectations for an unknown stage `{stage}`.{nearest(stage, stages)}")
        for name in list(self.sources)[1:]:
            for expectation in self.expectations.get(name, ()):
                if not expectation.is_row:
                    raise ValueError(
                        f"`{expectation.type}` on `{name}`: the whole-interval expectations judge the primary source, "
                        "features and scores only"
                    )
        return self

    @model_validator(mode="after")
    def _private_columns_do_not_come_out(self) -> Self:
        private = self.private_columns
        for column in self.destination.keep:
            if column.casefold() in private and column not in self.key:
                raise ValueError(f"`keep` carries `{column}` along, which is private; take it out of one of the two")
        for column in self.key:
            if private.get(column.casefold()) == "drop":
                raise ValueError(f"the key column `{column}` cannot be dropped, rows are known by it; say `hash`")
        for column, expression in self.decide.items():
            shown = sorted(read_expression(expression) & private.keys())
            if shown:
                raise ValueError(
                    f"`decide` makes `{column}` of `{shown[0]}`, which is private; what it makes is public"
                )
        return self

    @cached_property
    def private_columns(self) -> dict[str, Masking]:
        """Private columns of all sources and of the features, in lower case: one name is private everywhere."""
        named = [(c, how) for part in (*self.sources.values(), self) for c, how in part.private.items()]
        return {c.casefold(): how for c, how in sorted(named, key=lambda pair: pair[1], reverse=True)}

    @cached_property
    def primary(self) -> str:
        """Name of the primary source."""
        return next(iter(self.sources))

    @property
    def primary_source(self) -> Source:
        return self.sources[self.primary]

    @property
    def key(self) -> tuple[str, ...]:
        """Columns that identify a scored row."""
        return self.primary_source.key

    @cached_property
    def steps(self) -> tuple[ScoreStep, ...]:
        """The steps of inference, in the order that they run; `model:` is the short form of one."""
        return order_steps(self.models) if self.model is None else (ScoreStep(name="score", model=self.model),)

    def name_output(self, step: ScoreStep, output: str) -> str:
        """Return the column that a step's output becomes; that of a single `model:` keeps its name."""
        return f"{step.name}_{output}" if self.model is None else output

    def expectations_of(self, stage: str) -> tuple[Expectation, ...]:
        return self.expectations.get(stage, ())

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the definition's canonical form: keys sorted, defaults left out."""
        body = self.model_dump(mode="json", exclude_defaults=True, by_alias=True)
        return hashlib.sha256(json.dumps(body, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a pipeline file, for editors."""
    schema = Pipeline.model_json_schema(by_alias=True)
    schema["$defs"]["ModelRef"] = {"type": "string", "pattern": "^[^@]+@[^@]+$", "examples": ["card-risk@champion"]}
    schema["oneOf"] = [{"required": ["model"]}, {"required": ["models"]}]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Penstock pipeline"}
