"""The pipeline spec: one frozen object, read from YAML (`yaml_file`) or built in Python."""

from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationInfo, field_validator, model_validator

from penstock.errors import nearest
from penstock.spec.column_names import find_taken
from penstock.spec.deliver import MergeDelivery
from penstock.spec.drift import SAME_WEEKDAY
from penstock.spec.expression import read_expression
from penstock.spec.features_query import check_features
from penstock.spec.parts import (
    SANDBOX_TABLE,
    Place,
    refuse_parts,
)
from penstock.spec.pipeline_fields import Destination, PipelineFields
from penstock.spec.reasons import Reasons
from penstock.spec.sources import FilesSource, LogSource, Source, SqlSource
from penstock.spec.stages import FEATURES, MODEL, OUTPUTS, SCORES
from penstock.spec.steps import (
    ScoreStep,
    check_columns,
    check_decisions,
    is_named_output,
    is_output,
    order_steps,
)
from penstock.spec.suites import SUITE, read_suite
from penstock.spec.target_path import find_shared

FOLDER = "folder"
"""The validation context has the folder of the spec, which paths of suites start from."""
_WEEK = timedelta(days=7)


class Pipeline(PipelineFields):
    """One pipeline: sources, features, expectations, model, destination and schedule."""

    @field_validator("sources")
    @classmethod
    def _source_names_are_free(cls, value: dict[str, Source]) -> dict[str, Source]:
        taken = {FEATURES, SCORES, MODEL} & set(value)
        if taken:
            raise ValueError(f"a source cannot be named `{taken.pop()}`; that name is a stage")
        if OUTPUTS in value:
            raise ValueError(f"a source cannot be named `{OUTPUTS}`; recorded rows have their scores under that name")
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
    def _other_sources_can_be_held(self) -> Self:
        if not self.holds_snapshot:
            return self
        if len(self.sources) == 1:
            raise ValueError(
                "`serve.features: snapshot` holds the other sources, and there is only one source; leave it out"
            )
        for name, source in list(self.sources.items())[1:]:
            if isinstance(source, LogSource):
                raise ValueError(
                    f"`{name}` cannot be in a snapshot: the lines of a log come into the warehouse with a run. Write "
                    "`serve.features: request`"
                )
            if isinstance(source, FilesSource) and source.is_one_file_an_interval:
                raise ValueError(
                    f"`{name}` cannot be in a snapshot: it has one file an interval, and that of now may not be there "
                    "yet. Write `every` and `lookback`, or a path without the interval"
                )
        return self

    @model_validator(mode="after")
    def _deliveries_are_of_the_rows(self) -> Self:
        names = [target.name for target in self.deliver]
        if doubled := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"`deliver` has two targets of the name `{doubled}`; rename one of them")
        stored = (*self.key, *self.destination.keep, *self.decide)
        outputs = tuple(f"{step.name}_score" for step in self.models) or ("score",)
        steps = [step.name for step in self.models]
        for target in self.deliver:
            if target.start is not None and self.interval is None:
                raise ValueError(
                    f"`{target.name}` in `deliver` has a `start`, and the pipeline has no `interval`; remove `start`"
                )
            if isinstance(target, MergeDelivery):
                self._merges_by_the_key(target)
            folded = {column.casefold() for column in stored}
            wrong = [column for column in target.columns if column not in stored and not is_named_output(column, steps)]
            needed = read_expression(target.where) if target.where else ()
            wrong += [column for column in needed if column not in folded and not is_output(column, steps)]
            if wrong:
                known = (*self.key, *outputs, *self.decide, *self.destination.keep)
                raise ValueError(
                    f"`{target.name}` in `deliver` names `{wrong[0]}`, which is not stored with the scores; add it "
                    f"to `keep`.{nearest(wrong[0], known)}"
                )
        return self

    def _merges_by_the_key(self, target: MergeDelivery) -> None:
        if sorted(target.matched.values()) != sorted(self.key):
            matched, key = ", ".join(target.matched.values()), ", ".join(self.key)
            raise ValueError(
                f"`{target.name}` in `deliver` merges on {matched}, and a score belongs to the key {key}; name all "
                "columns of the key in `on`, and no other"
            )
        if private := [column for column in self.key if column.casefold() in self.private_columns]:
            raise ValueError(
                f"`{target.name}` in `deliver` merges by `{private[0]}`, which is private: a target gets its hash, "
                "which no table has; take it out of `private`, or deliver in another way"
            )

    @model_validator(mode="after")
    def _targets_have_places_of_their_own(self) -> Self:
        known: dict[str, str] = {}
        for target in self.deliver:
            if target.names_interval and self.interval is None:
                raise ValueError(
                    f"the path of `{target.name}` in `deliver` names the interval, and the pipeline has no `interval`"
                )
            if target.place is None:
                continue
            for other, place in known.items():
                if shared := find_shared(place, target.place):
                    raise ValueError(
                        f"`{other}` and `{target.name}` in `deliver` are both in `{shared}`; give each one a folder of "
                        "its own, which is in no other one"
                    )
            known[target.name] = target.place
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
