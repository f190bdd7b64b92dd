"""What a pipeline spec may say, and what follows from it. The rules between its parts are in `pipeline`."""

import hashlib
import json
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import Field

from penstock.spec.deliver import AnyTarget
from penstock.spec.drift import Drift
from penstock.spec.expectation import Expectation
from penstock.spec.interval import IntervalSpec
from penstock.spec.labels import Labels
from penstock.spec.parts import (
    LIVE,
    SANDBOX,
    SANDBOX_TABLE,
    Budget,
    Column,
    ConnectionName,
    Notify,
    Part,
    Retention,
    Schedule,
    SchemaName,
    TableName,
)
from penstock.spec.promotion import Promotion
from penstock.spec.reasons import Reasons
from penstock.spec.serve import Serve
from penstock.spec.sources import Masking, Source, SourceName
from penstock.spec.stages import FEATURES, SCORES
from penstock.spec.steps import (
    Challenger,
    ModelRef,
    ScoreStep,
    SqlExpression,
    order_steps,
)
from penstock.spec.suites import SUITE

_SCORING = {"sources", "partition_by", "features", "expectations", "model", "models", "decide"}


def _digest(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


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


class PipelineFields(Part):
    """The fields of a pipeline."""

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
    deliver: tuple[AnyTarget, ...] = Field(
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

    @property
    def for_challengers(self) -> Self:
        """The pipeline of a challenger's run. Reasons, drift, promotion and deliveries are the champion's."""
        return self.model_copy(update={"reasons": None, "drift": None, "promotion": None, "deliver": ()})

    @property
    def for_requests(self) -> Self:
        """The pipeline as it scores a request: a row that fails a critical expectation is refused, and only that row.

        What is judged over a whole interval is left out, what a snapshot of the other sources was judged by, and what
        becomes of published rows.
        """
        own = (self.primary, FEATURES, SCORES)
        judged = {
            stage: tuple(each.for_requests if stage in own else each for each in listed if each.is_row)
            for stage, listed in self.expectations.items()
            if stage in own or not self.holds_snapshot
        }
        left_out: dict[str, object] = dict.fromkeys(("reasons", "drift", "promotion"))
        left_out |= {"challengers": (), "seal": False, "deliver": (), "retention": Retention()}
        return self.model_copy(update=left_out | {"expectations": judged})

    @property
    def holds_snapshot(self) -> bool:
        """Whether a server holds the rows of the other sources in memory."""
        return self.serve is not None and self.serve.features == "snapshot"

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
        return _digest(body)

    @cached_property
    def scoring_fingerprint(self) -> str:
        """sha256 of the parts that decide a row's score: not when it is scored, nor what becomes of it."""
        return _digest(self.model_dump(mode="json", exclude_defaults=True, by_alias=True, include=_SCORING))
