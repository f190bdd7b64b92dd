"""Parts of the OpenAPI document that are the same for each pipeline."""

from typing import Any

from penstock.serving.recorded_answers import KEY_HEADER, MOST_OF_KEY

ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["what", "where", "next"],
            "properties": {
                "what": {"type": "string"},
                "where": {"type": "string"},
                "next": {"type": "string"},
                "rows": {"type": "array", "items": {"type": "object"}},
            },
        }
    },
}
TENSOR: dict[str, Any] = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "integer", "minimum": 1}},
        "datatype": {"type": "string"},
        "data": {"type": "array"},
        "parameters": {"type": "object"},
    },
}
PROTOCOL_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string"}, "rows": {"type": "array", "items": {"type": "object"}}},
}
PIN: dict[str, Any] = {"type": "object", "required": ["name", "version", "digest"]}
SNAPSHOT: dict[str, Any] = {
    "type": "object",
    "required": ["digest", "taken_at"],
    "properties": {"digest": {"type": "string"}, "taken_at": {"type": "string", "format": "date-time"}},
}
STANDING: dict[str, Any] = {
    "type": "object",
    "required": ["ready", "model", "problem"],
    "properties": {
        "ready": {"type": "boolean"},
        "model": {"anyOf": [PIN, {"type": "null"}]},
        "problem": {"type": ["string", "null"]},
        "recording": {"type": "object"},
        "snapshot": {"type": "object", "required": ["problem"]},
    },
}
READINESS: dict[str, Any] = {
    "type": "object",
    "required": ["ready"],
    "properties": {
        "ready": {"type": "boolean"},
        "pipelines": {"type": "object", "additionalProperties": STANDING},
    },
}
LIVE: dict[str, Any] = {"type": "object", "required": ["live"], "properties": {"live": {"type": "boolean"}}}
MODEL_READINESS: dict[str, Any] = {
    "type": "object",
    "required": ["name", "ready"],
    "properties": {"name": {"type": "string"}, "ready": {"type": "boolean"}},
}
OBJECT: dict[str, Any] = {"type": "object"}
KEY_PARAMETER: dict[str, Any] = {
    "name": KEY_HEADER,
    "in": "header",
    "schema": {"type": "string", "minLength": 1, "maxLength": MOST_OF_KEY, "pattern": "^[ -~]+$"},
    "description": "A retry with the same key gets the first answer.",
}
RECORDED_HEADER: dict[str, Any] = {
    "schema": {"enum": ["warehouse", "spool", "earlier"]},
    "description": "Where the request was recorded. `earlier` for a retry. Missing: the answer did not wait for it.",
}
NOT_READY = "Not ready."
