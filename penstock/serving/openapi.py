"""The OpenAPI document: what each pipeline takes and gives, made of its columns, its models and its decisions."""

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

import penstock
from penstock.database.types import TIMESTAMP
from penstock.serving.openapi_schemas import (
    ERROR,
    KEY_PARAMETER,
    LIVE,
    MODEL_READINESS,
    NOT_READY,
    OBJECT,
    PIN,
    PROTOCOL_ERROR,
    READINESS,
    RECORDED_HEADER,
    SNAPSHOT,
    TENSOR,
)
from penstock.serving.problems import is_protocol_path
from penstock.serving.recorded_answers import RECORDED
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
_STATES = {
    "/ready": "Whether each pipeline has a model",
    "/ping": "As `/ready`, for MLflow's client",
    "/health": "As `/ready`",
    "/v2/health/ready": "As `/ready`",
}


def describe_api(served: Iterable[ServedPipeline]) -> dict[str, Any]:
    """Return the document. A pipeline whose model does not stand yet is left out."""
    served = tuple(served)
    paths = {path: {"get": _describe_readiness(path, summary)} for path, summary in _STATES.items()}
    for path, summary in {"/live": "Whether the process answers", "/v2/health/live": "As `/live`"}.items():
        paths[path] = {"get": _describe_reading(path, summary, schema=LIVE)}
    paths["/v2"] = {"get": _describe_reading("/v2", "Name and version of the server")}
    for path, summary in {"/metrics": "Figures for Prometheus", "/version": "Version of Penstock"}.items():
        answer = {"description": summary, "content": {"text/plain": {"schema": {"type": "string"}}}}
        paths[path] = {"get": {"summary": summary, "responses": {"200": answer} | _error_answers()}}
    for each in served:
        if each.scorer is not None:
            paths |= _describe_pipeline(each, each.scorer)
            if len(served) == 1:  # with several pipelines the path names none of them
                paths["/invocations"] = {"post": _describe_invocation(each, each.scorer)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Penstock", "version": penstock.__version__},
        "paths": paths,
        "components": {
            "schemas": {"Error": ERROR, "ProtocolError": PROTOCOL_ERROR},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _describe_pipeline(served: ServedPipeline, scorer: Scorer) -> dict[str, Any]:
    name, key = served.name, _describe_key(scorer)
    found = "The live score of a key, with its run"
    known = "What is known of the score of a key"
    readings = {
        f"/v2/models/{name}": ("The columns and outputs of a pipeline", ()),
        f"/scores/{served.pipeline.destination.table}/{{key}}": (found, (key,)),
        f"/explain/{name}/{{key}}": (known, (key,)),
    }
    return {
        f"/pipelines/{name}/score": {"post": _describe_scoring(served, scorer)},
        f"/pipelines/{name}/invocations": {"post": _describe_invocation(served, scorer)},
        f"/v2/models/{name}/infer": {"post": _describe_infer(served)},
        f"/v2/models/{name}/ready": {"get": _describe_model_readiness(f"/v2/models/{name}/ready")},
    } | {path: {"get": _describe_reading(path, what, *keys)} for path, (what, keys) in readings.items()}


def _describe_scoring(served: ServedPipeline, scorer: Scorer) -> dict[str, Any]:
    pipeline = scorer.pipeline
    others = {
        name: {"type": "array", "items": _describe_row(columns)} for name, columns in scorer.other_columns.items()
    }
    sources = {"type": "object", "additionalProperties": False, "properties": others}
    body = {
        "type": "object",
        "additionalProperties": False,
        "required": ["rows"],
        "properties": {"rows": _describe_rows(served, scorer), "sources": sources},
    }
    scored = {
        "type": "object",
        "required": ["status"],
        "properties": {
            "status": {"enum": ["scored", "refused", "excluded"]},
            "outputs": _describe_outputs(scorer),
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
            "model": PIN,
            "steps": {"type": "object", "additionalProperties": PIN},
            "snapshot": SNAPSHOT,
            "left_out": {"type": "array", "items": {"type": "object", "required": ["source", "key", "reasons"]}},
        },
    }
    reasons = {"name": "reasons", "in": "query", "schema": {"type": "boolean"}, "description": "Add the top reasons."}
    summary = pipeline.description or f"Score rows of `{pipeline.primary}`"
    described = _describe_post(served, summary, body, answer)
    described["parameters"].append(reasons)
    return described


def _describe_invocation(served: ServedPipeline, scorer: Scorer) -> dict[str, Any]:
    """Describe MLflow's formats. JSON Schema cannot say that all columns or rows are equally long."""
    rows, columns = _describe_rows(served, scorer), scorer.columns[scorer.pipeline.primary]
    values = {name: {"type": "array", "minItems": 1, "items": _kind(kind)} for name, kind in columns.types.items()}
    by_column = {"type": "object", "required": sorted(columns.required), "properties": values}
    either = {"anyOf": [rows, by_column]}
    formats = {
        "dataframe_split": _describe_split(served, columns),
        "dataframe_records": rows,
        "instances": either,
        "inputs": either,
    }
    body = {"type": "object", "properties": formats, "oneOf": [{"required": [name]} for name in formats]}
    answer = {
        "type": "object",
        "required": ["predictions"],
        "properties": {"predictions": {"type": "array", "items": _describe_outputs(scorer)}},
    }
    described = _describe_post(served, "Score rows in a format of MLflow", body, answer)
    csv = {"type": "string", "description": "A header and comma-separated rows, in UTF-8."}
    described["requestBody"]["content"]["text/csv"] = {"schema": csv}
    return described


def _describe_split(served: ServedPipeline, columns: SourceColumns) -> dict[str, Any]:
    names = {
        "type": "array",
        "items": {"type": "string"},
        "uniqueItems": True,
        "allOf": [{"contains": {"const": name}} for name in sorted(columns.required)],
    }
    most = served.limits.limit.rows
    data = {"type": "array", "minItems": 1, "maxItems": most, "items": {"type": "array"}}
    return {"type": "object", "required": ["columns", "data"], "properties": {"columns": names, "data": data}}


def _describe_infer(served: ServedPipeline) -> dict[str, Any]:
    inputs = {"type": "array", "minItems": 1, "items": TENSOR}
    body = {"type": "object", "required": ["inputs"], "properties": {"inputs": inputs}}
    answer = {
        "type": "object",
        "required": ["model_name", "model_version", "id", "outputs"],
        "properties": {"model_name": {"const": served.name}, "outputs": {"type": "array", "items": TENSOR}},
    }
    summary = "Score tensors of the Open Inference Protocol"
    return _describe_post(served, summary, body, answer, "ProtocolError")


def _describe_post(
    served: ServedPipeline, summary: str, body: Mapping[str, Any], answer: Mapping[str, Any], error: str = "Error"
) -> dict[str, Any]:
    responses = {"200": _content("The scores.", answer)} | _error_answers(error)
    parameters = []
    if served.recorder is not None:
        parameters.append(KEY_PARAMETER)
        for status in ("200", "422"):
            responses[status]["headers"] = {RECORDED: RECORDED_HEADER}
    return {
        "summary": summary,
        "parameters": parameters,
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": responses,
    }


def _describe_reading(
    path: str, summary: str, *parameters: Mapping[str, Any], schema: Mapping[str, Any] = OBJECT
) -> dict[str, Any]:
    return {
        "summary": summary,
        "parameters": list(parameters),
        "responses": {"200": _content("What is known.", schema)} | _error_answers(_error_of(path)),
    }


def _describe_readiness(path: str, summary: str) -> dict[str, Any]:
    described = _describe_reading(path, summary, schema=READINESS)
    described["responses"]["503"] = _content(NOT_READY, READINESS)
    return described


def _describe_model_readiness(path: str) -> dict[str, Any]:
    described = _describe_reading(path, "Whether the pipeline has a model", schema=MODEL_READINESS)
    other = {"$ref": f"#/components/schemas/{_error_of(path)}"}  # such as a token file that cannot be read
    described["responses"]["503"] = _content(NOT_READY, {"anyOf": [MODEL_READINESS, other]})
    return described


def _error_of(path: str) -> str:
    return "ProtocolError" if is_protocol_path(path) else "Error"


def _describe_key(scorer: Scorer) -> dict[str, Any]:
    pipeline = scorer.pipeline
    kinds = [scorer.columns[pipeline.primary].types[name] for name in pipeline.key]
    schema = {"type": "integer"} if kinds == [pa.int64()] else {"type": "string", "minLength": 1}
    described = "The key, or a JSON object for a key of several columns."
    return {"name": "key", "in": "path", "required": True, "schema": schema, "description": described}


def _describe_outputs(scorer: Scorer) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {} for name in output_columns(scorer)}}


def _describe_rows(served: ServedPipeline, scorer: Scorer) -> dict[str, Any]:
    row = _describe_row(scorer.columns[scorer.pipeline.primary])
    return {"type": "array", "minItems": 1, "maxItems": served.limits.limit.rows, "items": row}


def _describe_row(columns: SourceColumns) -> dict[str, Any]:
    return {
        "type": "object",
        "required": sorted(columns.required),
        "properties": {name: _kind(kind) for name, kind in columns.types.items()},
    }


def _kind(kind: pa.DataType) -> dict[str, Any]:
    return _KINDS.get(kind, _DECIMAL)


def _content(description: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _error_answers(schema: str = "Error") -> dict[str, Any]:
    return {status: _content(what, {"$ref": f"#/components/schemas/{schema}"}) for status, what in _ERRORS.items()}
