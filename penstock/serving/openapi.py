"""The OpenAPI document: what each pipeline takes and gives, made of its columns, its models and its decisions."""

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

import penstock
from penstock.database.types import TIMESTAMP
from penstock.serving.request_rows import SourceColumns
from penstock.serving.scorer import Scorer, output_columns
from penstock.serving.served_pipeline import ServedPipeline

_KINDS: dict[pa.DataType, dict[str, Any]] = {
    pa.string(): {"type": ["string", "null"]},
    pa.int64(): {"type": ["integer", "null"], "minimum": -(2**63), "maximum": 2**63 - 1},
    pa.float64(): {"type": ["number", "null"]},
    pa.bool_(): {"type": ["boolean", "null"]},
    pa.date32(): {"type": ["string", "null"], "format": "date"},
    TIMESTAMP: {"type": ["string", "null"], "format": "date-time"},
    pa.null(): {"type": "null"},
}
_DECIMAL = {"type": ["number", "string", "null"]}
_ERRORS = {
    "400": "The body or a value is wrong.",
    "401": "There is no valid token.",
    "403": "The token has not the role.",
    "404": "There is no such pipeline, table or score.",
    "408": "The body took too long.",
    "413": "The body or its rows are too many.",
    "415": "The media type is not the one of the format.",
    "421": "The host is not one of the server.",
    "422": "No row could be scored; `rows` gives the reasons.",
    "429": "Too many requests; see Retry-After.",
    "500": "The server failed; its log says where.",
    "503": "Not ready, or the warehouse is busy; see Retry-After.",
}
_ERROR = {
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


def describe_api(served: Iterable[ServedPipeline]) -> dict[str, Any]:
    """Return the document. A pipeline whose model does not stand yet is left out."""
    paths: dict[str, Any] = {}
    for each in served:
        if each.scorer is not None:
            paths[f"/pipelines/{each.name}/score"] = {"post": _describe_scoring(each, each.scorer)}
            key, table = (
                _parameter("key", "The key, or a JSON object for a key of several columns."),
                each.pipeline.destination.table,
            )
            paths[f"/scores/{table}/{{key}}"] = {"get": _describe_lookup("The live score of a key, with its run", key)}
            paths[f"/explain/{each.name}/{{key}}"] = {
                "get": _describe_lookup("What is known of the score of a key", key)
            }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Penstock", "version": penstock.__version__},
        "paths": paths,
        "components": {
            "schemas": {"Error": _ERROR},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _describe_scoring(served: ServedPipeline, scorer: Scorer) -> dict[str, Any]:
    pipeline, most = scorer.pipeline, served.limits.limit.rows
    rows = {"type": "array", "minItems": 1, "maxItems": most, "items": _describe_row(scorer.columns[pipeline.primary])}
    others = {
        name: {"type": "array", "items": _describe_row(columns)} for name, columns in scorer.other_columns.items()
    }
    sources = {"type": "object", "additionalProperties": False, "properties": others}
    body = {
        "type": "object",
        "additionalProperties": False,
        "required": ["rows"],
        "properties": {"rows": rows, "sources": sources},
    }
    scored = {
        "type": "object",
        "required": ["status"],
        "properties": {
            "status": {"enum": ["scored", "refused", "excluded"]},
            "outputs": {"type": "object", "properties": {name: {} for name in output_columns(scorer)}},
            "reasons": {"type": "array"},
        },
    }
    answer = {
        "type": "object",
        "required": ["request_id", "pipeline", "rows", "model"],
        "properties": {
            "request_id": {"type": "string"},
            "pipeline": {"const": pipeline.name},
            "rows": {"type": "array", "items": scored},
            "model": {"type": "object", "required": ["name", "version", "digest"]},
            "snapshot": {"type": "object", "required": ["digest", "taken_at"]},
        },
    }
    return {
        "summary": pipeline.description or f"Score rows of `{pipeline.primary}`",
        "parameters": [
            {"name": "reasons", "in": "query", "schema": {"type": "boolean"}, "description": "Add the top reasons."}
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {"200": _content("A status for each row.", answer)} | _error_answers(),
    }


def _describe_lookup(summary: str, parameter: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "summary": summary,
        "parameters": [parameter],
        "responses": {"200": _content("What is known.", {"type": "object"})} | _error_answers(),
    }


def _parameter(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}, "description": description}


def _describe_row(columns: SourceColumns) -> dict[str, Any]:
    return {
        "type": "object",
        "required": sorted(columns.required),
        "properties": {name: _KINDS.get(kind, _DECIMAL) for name, kind in columns.types.items()},
    }


def _content(description: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _error_answers() -> dict[str, Any]:
    return {status: _content(what, {"$ref": "#/components/schemas/Error"}) for status, what in _ERRORS.items()}
