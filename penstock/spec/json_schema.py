"""The JSON Schema of a pipeline file, for editors and for the spec reference."""

from datetime import timedelta
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from penstock.spec.parts import write_duration
from penstock.spec.pipeline import Pipeline


class _SpecSchema(GenerateJsonSchema):
    """Keep the order of keys, and write a default duration as a spec does: `7d`, where pydantic writes ISO 8601."""

    def sort(self, value: JsonSchemaValue, parent_key: str | None = None) -> JsonSchemaValue:
        return value

    def encode_default(self, dft: Any) -> Any:
        return write_duration(dft) if isinstance(dft, timedelta) else super().encode_default(dft)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a pipeline file."""
    schema = Pipeline.model_json_schema(by_alias=True, schema_generator=_SpecSchema)
    schema["$defs"]["ModelRef"] = {"type": "string", "pattern": "^[^@]+@[^@]+$"}
    schema["oneOf"] = [{"required": ["model"]}, {"required": ["models"]}]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Penstock pipeline"}
