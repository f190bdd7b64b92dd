"""The pipeline spec: one frozen object, read from YAML (`yaml_file`) or built in Python."""

import hashlib
import json
import re
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from penstock.errors import nearest
from penstock.interval import Grain, Grid, Weekday, as_utc, calendar_boundaries, is_fixed, iso, parse_duration
from penstock.spec.column_names import find_taken
from penstock.spec.deliver import HttpDelivery
from penstock.spec.drift import SAME_WEEKDAY, Drift
from penstock.spec.expectation import Expectation
from penstock.spec.expression import read_expression
from penstock.spec.features_query import check_features
from penstock.spec.labels import Labels
from penstock.spec.parts import (
    LIVE,
    SANDBOX,
    SANDBOX_TABLE,
    Budget,
    Column,
    ConnectionName,
    Duration,
    GrainText,
    Notify,
    Part,
    Place,
    Retention,
    Schedule,
    SchemaName,
    TableName,
    TimeZone,
    refuse_parts,
    write_duration,
)
from penstock.spec.promotion import Promotion
from penstock.spec.reasons import Reasons
from penstock.spec.serve import Serve
from penstock.spec.sources import LogSource, Masking, Source, SourceName, SqlSource
from penstock.spec.steps import (
    Challenger,
    ModelRef,
    ScoreStep,
    SqlExpression,
    check_columns,
    check_decisions,
    is_output,
    order_steps,
)
from penstock.spec.suites import SUITE, read_suite

FOLDER = "folder"
"""The validation context has the folder of the spec, which paths of suites start from."""
FEATURES: Final = "features"
SCORES: Final = "scores"
MODEL = "model"
"""Stage of rows that the model itself refuses, such as rows with an unseen category."""
KEY_IS_NULL = "the key is NULL"
_WEEK = timedelta(days=7)


class IntervalSpec(Part):
    """Which intervals of event time are scored, and when each one is due."""

    column: Column = Field(examples=["created_at"])
    """Column of the primary source with the event time. For a log source it is `time`."""
    timezone: TimeZone = Field(default="UTC", examples=["Europe/Berlin"])
    """IANA time zone of the calendar. Days, weeks, months, quarters and years begin at its midnights, so a day may have
    23 or 25 hours. Minutes and hours have a fixed length. Event times without zone are UTC, whatever this zone is."""
    grain: GrainText = Field(examples=["1d", "month"])
    """Length of a data interval: a fixed one, or a `week`, `month`, `quarter` or `year` of the calendar."""
    first_day: Weekday = Field(default="monday", examples=["sunday"])
    """First day of a `week`."""
    start: datetime = Field(examples=["2026-01-06T00:00:00Z"])
    """Start of the first interval. A time without zone is local time of `timezone`. A week, month, quarter or year must
    begin then, and so must a day of another zone than UTC."""
    delay: Duration = Field(default=timedelta(0), examples=["10m"])
    """How long after its end an interval is due."""
    settle: Literal["delay", "horizon"] = Field(default="delay", examples=["horizon"])
    """`delay`: an interval is due when the delay is over. `horizon` (Postgres only): it is due when, in addition,
    every transaction that began before the end of the delay has ended."""
    lookback: int = Field(default=0, ge=0, le=1000, examples=[2])
    """How many of the newest published intervals are checked for late rows and scored again if there are any."""
    catch_up: Literal["all", "latest"] = Field(default="all", examples=["latest"])
    """After a pause: score all missed intervals, or only the latest one."""
    max_intervals: int = Field(default=32, ge=1, le=10_000, examples=[14])
    """Most intervals that one run scores, oldest first."""

    @field_validator("grain")
    @classmethod
    def _grain_is_positive(cls, value: Grain) -> Grain:
        if isinstance(value, timedelta) and value <= timedelta(0):
            raise ValueError("a grain must be longer than zero")
        return value

    @field_validator("grain", mode="before")
    @classmethod
    def _hours_are_no_days(cls, value: Any, info: ValidationInfo) -> Any:
        zone = info.data.get("timezone", "UTC")
        if isinstance(value, str) and re.fullmatch(r"\s*\d{1,6}\s*[hm]\s*", value) and zone != "UTC":
            length = parse_duration(value)
            if length % timedelta(days=1) == timedelta(0):
                raise ValueError(f"a day in {zone} may have 23 or 25 hours; write `{write_duration(length)}` for days")
        return value

    @field_validator("first_day")
    @classmethod
    def _only_weeks_have_a_first_day(cls, value: Weekday, info: ValidationInfo) -> Weekday:
        if value != "monday" and info.data.get("grain") != "week":
            raise ValueError("only `grain: week` has a first day; leave `first_day` out")
        return value

    @field_validator("start")
    @classmethod
    def _start_is_whole_seconds(cls, value: datetime) -> datetime:
        if value.microsecond:
            raise ValueError("the start must be a whole second")
        return value

    @field_validator("start")
    @classmethod
    def _start_is_a_boundary(cls, value: datetime, info: ValidationInfo) -> datetime:
        if not {"timezone", "grain", "first_day"} <= info.data.keys():
            return as_utc(value)  # one of them is refused
        zone, grain = info.data["timezone"], info.data["grain"]
        start = as_utc(value, zone)
        if is_fixed(grain, zone):
            return start
        last, following = calendar_boundaries(start, grain, zone, info.data["first_day"])
        if start != last:
            told, before, after = (iso(moment, zone) for moment in (start, last, following))
            name = "day" if isinstance(grain, timedelta) else grain
            raise ValueError(f"no {name} begins at {told} in {zone}; the nearest begin at {before} and {after}")
        return start

    @property
    def grid(self) -> Grid:
        """The intervals of the pipeline, from `start` on."""
        return Grid(self.start, self.grain, self.timezone)


class Destination(Part):
    """Where the scores are written."""

    connection: ConnectionName = Field(default="warehouse", examples=["warehouse"])
    """Name of the connection. Its URL is in the setting `PENSTOCK_CONNECTIONS__<NAME>`."""
    table: TableName = Field(examples=["card_risk_scores"])
    """Name of the view with the live rows. The rows of all runs are in the table `<table>__history`."""
    schema_: SchemaName | None = Field(default=None, alias="schema", examples=["scores"])
    """Schema of the view and of the table. Without it they are in the default schema of the connection."""
    keep: tuple[Column, ...] = Field(default=(), examples=[["created_at", "country"]])
    """Columns of the features or of the primary source that are stored beside the score."""

    @property
    def sandbox(self) -> str:
        """Name of the sandbox whose table it is. Empty for the table that the pipeline's readers know."""
        return self.table.partition(SANDBOX_TABLE)[2]

    @property
    def variant(self) -> str:
        """The variant of the runs that the views show."""
        return f"{SANDBOX}{self.sandbox}" if self.sandbox else LIVE


def _allow_suites(schema: dict[str, Any]) -> None:
    """Let the JSON Schema take a suite in place of a list of expectations."""
    suite = {
        "type": "object",
        "properties": {SUITE: {"type": "string", "minLength": 1}},
        "required": [SUITE],
        "additionalProperties": False,
    }
    schema["additionalProperties"] = {"anyOf": [schema["additionalProperties"], suite]}


class Pipeline(Part):
    """One pipeline: sources, features, expectations, model, destination and schedule."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=36, examples=["card-risk"])
    """Name of the pipeline. Give its file the same name."""
    description: str = Field(default="", examples=["Which card payments will be charged back"])
    """One sentence for people. Prefect shows it with the deployment."""
    interval: IntervalSpec | None = Field(
        default=None, examples=[{"column": "created_at", "grain": "1d", "start": "2026-01-06T00:00:00Z"}]
    )
    """Which intervals are scored. Without it every run scores the whole source (a snapshot pipeline)."""
    schedule: Schedule | None = Field(default=None, examples=[{"cron": "15 2 * * *", "timezone": "Europe/Paris"}])
    """When runs start. Without it runs start only when triggered."""
    notify: Notify = Field(default=Notify(), examples=[{"on_halt": ["slack-webhook/data-team"]}])
    """Who gets a message when a run does not publish, or its scores turn out badly."""
    sources: dict[SourceName, Source] = Field(
        min_length=1,
        examples=[{"payments": {"kind": "sql", "connection": "shop", "table": "payments", "key": ["payment_id"]}}],
    )
    """Sources by name. The first one is the primary source: each of its rows gets one score."""
    partition_by: Column | None = Field(default=None, examples=["customer_id"])
    """Column of the primary source whose rows with one value stay in one partition, so that windows and groups over it
    in `features` see all of them. A value with more rows than `partition_rows` halts the run."""
    features: str | None = Field(
        default=None, min_length=1, examples=["select payment_id, amount, hour(created_at) as hour from payments"]
    )
    """DuckDB SQL over the sources that returns one row per key. Each row must depend only on its own primary row, or on
    the rows with its value of `partition_by`. Without it the features are the columns of the primary source."""
    private: dict[Column, Masking] = Field(default_factory=dict, examples=[{"contact": "hash"}])
    """Private columns of the features that have another name than in their source."""
    expectations: dict[str, tuple[Expectation, ...]] = Field(
        default_factory=dict,
        examples=[{"payments": [{"type": "expect_column_values_to_not_be_null", "column": "amount"}]}],
        json_schema_extra=_allow_suites,
    )
    """Expectations by stage. A stage is the name of a source, `features` or `scores`. `{suite: payments.json}` reads a
    stage's expectations from a suite of Great Expectations 1.x. Its path starts at the folder of the spec."""
    quarantine_limit: float = Field(default=0.05, ge=0, le=1, examples=[0.02])
    """Largest share of the rows of an interval that may be refused. Above it the run halts."""
    empty: Literal["halt", "publish"] = Field(default="halt", examples=["publish"])
    """What a run does with an interval that has no rows: halt, or publish it as empty."""
    audit_rows: int = Field(default=1_000_000, ge=1000, examples=[200_000])
    """Most rows that aggregate expectations read. A larger interval is judged by a uniform sample of this size."""
    model: ModelRef | None = Field(default=None, examples=["card-risk@champion"])
    """The model, as name@alias or name@version. Give either `model` or `models`. Its main output is `score`."""
    models: tuple[ScoreStep, ...] = Field(
        default=(), max_length=16, examples=[[{"name": "screen", "model": "risk-screen@champion"}]]
    )
    """Steps of inference instead of `model`, for models that read outputs of other models or score only some rows."""
    challengers: tuple[Challenger, ...] = Field(
        default=(), max_length=8, examples=[[{"model": "card-risk@challenger", "share": 1.0}]]
    )
    """Models that score the same rows in the same run, each in a run of its own beside the one that readers see. Only
    for a pipeline with `model`."""
    destination: Destination = Field(examples=[{"table": "card_risk_scores", "keep": ["amount"]}])
    """The view and the table of the scores."""
    decide: dict[Column, SqlExpression] = Field(
        default_factory=dict,
        max_length=32,
        examples=[{"decision": "case when score > 0.8 then 'block' else 'pass' end"}],
    )
    """Columns computed after the last step, each by a DuckDB expression over features, outputs and earlier entries."""
    reasons: Reasons | None = Field(
        default=None, examples=[{"when": "decision = 'block'", "top": 4, "direction": "raises"}]
    )
    """Reasons of the scores, in the table `<table>__reasons`. Without it no row gets reasons."""
    seal: bool = Field(default=False, examples=[True])
    """Store with each row a seal of its key, outputs, features, model and run, so that `penstock ledger check-seals`
    finds rows that were changed afterwards. Needs the setting `PENSTOCK_SEAL_KEY`."""
    drift: Drift | None = Field(
        default=None, examples=[{"against": "model", "watch": {"country": "critical", "*": "info"}}]
    )
    """Compare the features and the scores of each run with earlier rows."""
    deliver: tuple[HttpDelivery, ...] = Field(
        default=(),
        max_length=16,
        examples=[[{"kind": "http", "name": "crm", "url": "crm", "where": "score > 0.8"}]],
    )
    """Other systems that get the live rows after each publish, and whatever else changes what readers see."""
    labels: Labels | None = Field(
        default=None,
        examples=[
            {
                "source": {"kind": "sql", "connection": "shop", "table": "chargebacks", "key": ["payment_id"]},
                "value": "1",
                "seen_at": "reported_at",
                "mature": "45d",
                "missing": "negative",
            }
        ],
    )
    """The labels of scored rows, which come later. `penstock labels collect` reads them."""
    promotion: Promotion | None = Field(
        default=None,
        examples=[{"alias": "champion", "require": {"intervals": 14, "drift": "none"}, "approval": "person"}],
    )
    """When the challenger becomes the champion: what it must show, and who must approve. Without it aliases move by
    hand."""
    serve: Serve | None = Field(default=None, examples=[{"limit": {"rows": 100, "in_flight": 32}}])
    """How requests are scored over HTTP. `penstock serve` serves the pipelines that have it, or those that it is
    given."""
    retention: Retention = Field(default=Retention(), examples=[{"keep_runs": 2, "quarantine": "90d"}])
    """What `penstock prune` removes."""
    budget: Budget = Field(default=Budget(), examples=[{"rows": 5_000_000, "minutes": 90}])
    """Limits of one scoring run."""
    partition_rows: int = Field(default=250_000, ge=1, examples=[50_000])
    """Most rows of a partition, the unit of memory, of retry and of parallel work."""

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

    @field_validator("features")
    @classmethod
    def _features_do_not_depend_on_partitions(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("sources") and "partition_by" in info.data:
            primary, source = next(iter(info.data["sources"].items()))
            check_features(value, primary, source.key, info.data["partition_by"])
        return value

    @field_validator("destination")
    @classmethod
    def _tables_of_sandboxes_are_theirs(cls, value: Destination, info: ValidationInfo) -> Destination:
        if info.context and value.sandbox:  # the spec of a file; a run makes a sandbox's pipeline of it
            raise ValueError(f"`{SANDBOX_TABLE}` stands in the tables of sandboxes; choose another `table`")
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

    @model_validator(mode="after")
    def _drift_can_be_judged(self) -> Self:
        if self.drift is None:
            return self
        if hidden := [column for column in self.drift.slices if column.casefold() in self.private_columns]:
            raise ValueError(f"`drift.slices` names `{hidden[0]}`, which is private; its values would be shown")
        grain = self.interval.grain if self.interval else None
        if self.drift.against == SAME_WEEKDAY and not (isinstance(grain, timedelta) and not _WEEK % grain):
            raise ValueError(f"`drift` against `{SAME_WEEKDAY}` needs an `interval` whose `grain` divides a week")
        return self

    @model_validator(mode="after")
    def _challengers_stand_beside_one_model(self) -> Self:
        if self.challengers and self.models:
            raise ValueError(
                "`challengers` go with `model`, not with `models`: a challenger takes the place of one whole model"
            )
        return self

    @field_validator("decide")
    @classmethod
    def _decisions_follow_what_they_take(cls, value: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        if "models" in info.data:  # otherwise the models are invalid, and their outputs unknown
            check_decisions(value, info.data["models"], info.data.get("features"))
        return value

    @field_validator("reasons")
    @classmethod
    def _reasons_use_columns_of_the_row(cls, value: Reasons | None, info: ValidationInfo) -> Reasons | None:
        if value is not None and {"models", "decide"} <= info.data.keys():
            names, decided = [step.name for step in info.data["models"]], tuple(info.data["decide"])
            outputs = tuple(f"{name}_score" for name in names) or ("score",)
            given = {column.casefold() for column in decided}
            needed = {c for c in read_expression(value.when) if not is_output(c, names) and c not in given}
            check_columns("`reasons.when`", needed, (*decided, *outputs), info.data.get("features"))
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
    def _columns_have_names_of_their_own(self) -> Self:
        places: list[tuple[Place, str]] = [
            (("sources", self.primary, "key", number), column) for number, column in enumerate(self.key)
        ]
        places += [(("decide", column), column) for column in self.decide]
        places += [
            (("destination", "keep", number), column)
            for number, column in enumerate(self.destination.keep)
            if column not in self.key
        ]
        taken = {name.column: str(name) for name in find_taken([column for _, column in places])}
        refuse_parts(type(self), [(place, column, taken[column]) for place, column in places if column in taken])
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

    @field_validator("expectations", mode="before")
    @classmethod
    def _suites_are_read(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, dict):
            return value
        folder = Path((info.context or {}).get(FOLDER, "."))
        read: dict[str, Any] = dict(value)
        problems: list[tuple[Place, Any, str]] = []
        for stage, listed in value.items():
            if not isinstance(listed, dict):
                continue
            if listed.keys() != {SUITE} or not isinstance(listed[SUITE], str):
                problems.append(
                    ((stage,), listed, "write a list of expectations here, or `{suite: payments.json}` alone")
                )
                continue
            try:
                read[stage] = read_suite(folder / listed[SUITE], listed[SUITE])
            except ValueError as error:
                problems.append(((stage, SUITE), listed[SUITE], str(error)))
        refuse_parts(cls, problems)
        return read

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

    @model_validator(mode="after")
    def _performance_is_known(self) -> Self:
        if self.notify.on_performance and not (self.labels and self.labels.alert):
            raise ValueError("`notify.on_performance` tells of `labels.alert`; write its limits, or take it out")
        return self

    @model_validator(mode="after")
    def _labels_are_of_the_rows(self) -> Self:
        if self.labels is None:
            return self
        if sorted(self.labels.source.key) != sorted(self.key):
            wanted = ", ".join(self.key)
            raise ValueError(f"labels are found by the key of the rows; write `key: [{wanted}]` in `labels.source`")
        if self.labels.missing == "negative" and not self.labels.mature:
            raise ValueError("`missing: negative` needs `mature`, the age at which a row without a label is negative")
        kept, mature = self.retention.labels, self.labels.mature
        if kept is not None and mature is not None and kept <= mature:
            raise ValueError(
                "`retention.labels` must be longer than `labels.mature`, so that they count before they go"
            )
        if shown := sorted(read_expression(self.labels.value) & self.private_columns.keys()):
            raise ValueError(f"`labels.value` is made of `{shown[0]}`, which is private; what it makes is public")
        known = (*self.key, *self.destination.keep, *self.decide)
        for column in self.labels.slices:
            if column not in known:
                raise ValueError(
                    f"`labels.slices` names `{column}`, which is not stored with the scores; add it to `keep`."
                    f"{nearest(column, known)}"
                )
            if column.casefold() in self.private_columns:
                raise ValueError(f"`labels.slices` names `{column}`, which is private; its values would be shown")
        return self

    @model_validator(mode="after")
    def _deliveries_are_of_the_rows(self) -> Self:
        names = [target.name for target in self.deliver]
        if doubled := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"`deliver` has two targets of the name `{doubled}`; rename one of them")
        stored = {column.casefold() for column in (*self.key, *self.destination.keep, *self.decide)}
        outputs = tuple(f"{step.name}_score" for step in self.models) or ("score",)
        steps = [step.name for step in self.models]
        for target in self.deliver:
            if target.start is not None and self.interval is None:
                raise ValueError(
                    f"`{target.name}` in `deliver` has a `start`, and the pipeline has no `interval`; remove `start`"
                )
            named = dict.fromkeys(column.casefold() for column in target.columns)
            for column in (*named, *(read_expression(target.where) if target.where else ())):
                if column not in stored and not is_output(column, steps):
                    known = (*self.key, *outputs, *self.decide, *self.destination.keep)
                    raise ValueError(
                        f"`{target.name}` in `deliver` names `{column}`, which is not stored with the scores; add it "
                        f"to `keep`.{nearest(column, known)}"
                    )
        return self

    @model_validator(mode="after")
    def _promotion_can_be_judged(self) -> Self:
        if self.promotion is None:
            return self
        alias, require, model = self.promotion.alias, self.promotion.require, self.model
        if model is None:
            raise ValueError("`promotion` moves the alias of one model; a pipeline with `models` cannot have it")
        if model.selector != alias:
            raise ValueError(
                f"`promotion` would move the alias `{alias}`, and `model` names `{model}`; name the same alias in both"
            )
        if not self.candidates:
            raise ValueError(f"`promotion` needs an entry of `challengers` that is another `{model.name}`")
        if self.promotion.challenger is None and len(self.candidates) > 1:
            listed = ", ".join(f"`{each}`" for each in self.candidates)
            raise ValueError(
                f"`promotion` has more than one challenger to choose from ({listed}); name one as `challenger`"
            )
        if self.promotion.challenger is not None and self.promotion.challenger not in self.candidates:
            named, known = str(self.promotion.challenger), tuple(map(str, self.candidates))
            raise ValueError(
                f"`promotion.challenger` names `{named}`, which `challengers` lacks.{nearest(named, known)}"
            )
        if require.needs_labels and self.labels is None:
            raise ValueError(f"`{require.needs_labels[0]}` of `promotion.require` needs `labels`")
        if require.flips and not self.decide:
            raise ValueError("`flips` of `promotion.require` counts decisions that differ; it needs `decide`")
        if require.drift and self.drift is None:
            raise ValueError("`drift` of `promotion.require` needs `drift` in the spec, which counts the runs' columns")
        return self

    @property
    def for_challengers(self) -> Self:
        """The pipeline of a challenger's run. Reasons, drift, promotion and deliveries are the champion's."""
        return self.model_copy(update={"reasons": None, "drift": None, "promotion": None, "deliver": ()})

    @property
    def for_requests(self) -> Self:
        """The pipeline as it scores a request: a row that fails a critical expectation is refused, and only that row.

        What is judged over a whole interval is left out.
        """
        own = (self.primary, FEATURES, SCORES)
        judged = {
            stage: tuple(each.for_requests if stage in own else each for each in listed if each.is_row)
            for stage, listed in self.expectations.items()
        }
        left_out = {"reasons": None, "drift": None, "promotion": None, "challengers": (), "seal": False}
        return self.model_copy(update=left_out | {"expectations": judged})

    @property
    def candidates(self) -> tuple[ModelRef, ...]:
        """The challengers that are versions of the pipeline's own model, so that its alias can move to them."""
        own = self.model.name if self.model else None
        return tuple(each.model for each in self.challengers if each.model.name == own and each.model != self.model)

    @property
    def candidate(self) -> ModelRef | None:
        """The challenger that `promotion` is about. None without `promotion`."""
        return None if self.promotion is None else self.promotion.challenger or self.candidates[0]

    @cached_property
    def private_columns(self) -> dict[str, Masking]:
        """Private columns of all sources and of the features, in lower case: one name is private everywhere."""
        labels = [self.labels.source] if self.labels else []
        parts = (*self.sources.values(), *labels, self)
        named = [(c, how) for part in parts for c, how in part.private.items()]
        return {c.casefold(): how for c, how in sorted(named, key=lambda pair: pair[1], reverse=True)}

    @cached_property
    def primary(self) -> str:
        """Name of the primary source."""
        return next(iter(self.sources))

    @property
    def timezone(self) -> str:
        """Time zone of the intervals, of the dates in paths, and of times that users write without a zone."""
        return self.interval.timezone if self.interval else "UTC"

    @property
    def is_sandbox(self) -> bool:
        """Whether its runs are a sandbox's, which stands beside what readers see."""
        return bool(self.destination.sandbox)

    @property
    def label(self) -> str:
        """The name for people: `card-risk`, or `card-risk sandbox:lower`."""
        return f"{self.name} {self.destination.variant}" if self.is_sandbox else self.name

    @property
    def primary_source(self) -> Source:
        return self.sources[self.primary]

    @property
    def key(self) -> tuple[str, ...]:
        """Columns that identify a scored row."""
        return self.primary_source.key

    @cached_property
    def steps(self) -> tuple[ScoreStep, ...]:
        """The steps of inference, in the order that they run. `model:` is the short form of one."""
        return order_steps(self.models) if self.model is None else (ScoreStep(name="score", model=self.model),)

    def name_output(self, step: ScoreStep, output: str) -> str:
        """Return the column that a step's output becomes. That of a single `model:` keeps its name."""
        return f"{step.name}_{output}" if self.model is None else output

    def expectations_of(self, stage: str) -> tuple[Expectation, ...]:
        return self.expectations.get(stage, ())

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the definition's canonical form: keys sorted, defaults left out."""
        body = self.model_dump(mode="json", exclude_defaults=True, by_alias=True)
        return hashlib.sha256(json.dumps(body, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
