"""One expectation of a spec."""

from typing import Any, Self

from pydantic import ConfigDict, Field, ValidationInfo, field_validator, model_serializer, model_validator

from penstock.errors import nearest
from penstock.spec.expectation_arguments import find_problems
from penstock.spec.expectation_types import AGGREGATE_TYPES, ALL_TYPES, ROW_TYPES, ExpectationType, Severity
from penstock.spec.parts import Part, refuse_parts


class Expectation(Part):
    """One expectation of Great Expectations with a severity. Other keys are the arguments of the expectation."""

    type: ExpectationType = Field(examples=["expect_column_values_to_not_be_null"])
    """Name of the expectation in Great Expectations."""
    severity: Severity = Field(default="critical", examples=["warning"])
    """What a failure does: `critical` halts the run, `warning` puts the rows into quarantine, `info` is only noted."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    suite: str = Field(default="", exclude=True)
    """The file of the suite that it was read from."""
    note: str = Field(default="", exclude=True)
    """What was changed when it was read from a suite."""

    model_config = ConfigDict(
        json_schema_extra=lambda schema: (
            [schema["properties"].pop(name) for name in ("arguments", "suite", "note")],
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

    @field_validator("arguments")
    @classmethod
    def _arguments_are_right(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if "type" in info.data:  # otherwise the type is unknown, and so are its arguments
            problems = find_problems(info.data["type"], value)
            refuse_parts(cls, [((name,), value.get(name, value), what) for name, what in problems])
        return value

    @model_validator(mode="after")
    def _reaction_is_possible(self) -> Self:
        if self.severity == "warning" and not self.is_row:
            raise ValueError(
                f"`{self.type}` judges the whole interval and cannot quarantine rows; make it critical or info"
            )
        if self.severity == "warning" and "mostly" in self.arguments:
            raise ValueError("`mostly` does not go with severity warning; the share is `quarantine_limit`")
        return self

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        return {"type": self.type, "severity": self.severity, **self.arguments}

    @property
    def for_requests(self) -> Self:
        """The expectation as it judges a request: it refuses the row where it would halt a run."""
        halts = self.severity == "critical" and self.is_row and "mostly" not in self.arguments
        return self.model_copy(update={"severity": "warning"}) if halts else self

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
