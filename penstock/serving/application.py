"""The HTTP application: its routes, and what each of them answers."""

import re
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

import penstock
from penstock.access.tokens import Identity
from penstock.errors import PenstockError, RequestError, TooManyRequests
from penstock.run_types import deciding_model
from penstock.serving.answers import describe_pin, describe_snapshot, json_response
from penstock.serving.background import keep_current
from penstock.serving.bodies import read_body
from penstock.serving.guard import Guard
from penstock.serving.lookups import Lookups
from penstock.serving.metrics import Metrics
from penstock.serving.open_inference import describe_columns
from penstock.serving.openapi import describe_api
from penstock.serving.problems import answer_error, write_problem
from penstock.serving.scorer import Scorer, output_columns
from penstock.serving.scoring_answers import (
    Answer,
    Asked,
    answer_infer,
    answer_invocation,
    answer_recorded,
    answer_score,
)
from penstock.serving.served_pipeline import ServedPipeline

Endpoint = Callable[[Request], Awaitable[Response]]
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LOOKUPS = 8
"""Most published scores that are looked up at once. Each takes a thread, and may wait for the warehouse."""


@dataclass(frozen=True)
class ServingApplication:
    """Answers requests for the scores of some pipelines."""

    served: Mapping[str, ServedPipeline]
    guard: Guard
    lookups: Lookups
    pages: Sequence[BaseRoute] = ()
    """The pages for people. They have a guard of their own."""
    poll_seconds: float = 5.0
    """Seconds between two looks at the aliases of the models."""
    _lookups: threading.BoundedSemaphore = field(default_factory=partial(threading.BoundedSemaphore, _LOOKUPS))

    def build(self) -> Starlette:
        """Return the ASGI application."""
        metrics = Metrics(self.served.values())
        scoring = [
            ("/pipelines/{pipeline}/score", "penstock", answer_score),
            ("/pipelines/{pipeline}/invocations", "mlflow", answer_invocation),
            ("/invocations", "mlflow", answer_invocation),
            ("/v2/models/{pipeline}/infer", "open inference", answer_infer),
            ("/v2/models/{pipeline}/versions/{version}/infer", "open inference", answer_infer),
        ]
        routes = [Route(path, self._scoring(metrics, name, answer), methods=["POST"]) for path, name, answer in scoring]
        open_to_all: dict[str, Endpoint] = {
            "/live": self._live,
            "/ready": self._ready,
            "/v2/health/live": self._live,
            "/v2/health/ready": self._ready,
            "/ping": self._ready,
            "/health": self._ready,
        }
        routes += [Route(path, self._guarded(answer, open_to_all=True)) for path, answer in open_to_all.items()]
        readers: dict[str, Endpoint] = {
            "/openapi.json": self._openapi,
            "/scores/{table}/{key:path}": self._find_score,
            "/explain/{pipeline}/{key:path}": self._explain,
            "/metrics": partial(self._metrics, metrics),
            "/version": self._version,
            "/v2": self._describe_server,
            "/v2/models/{pipeline}": self._describe_model,
            "/v2/models/{pipeline}/ready": self._model_ready,
            "/v2/models/{pipeline}/versions/{version}": self._describe_model,
            "/v2/models/{pipeline}/versions/{version}/ready": self._model_ready,
        }
        routes += [Route(path, self._guarded(answer)) for path, answer in readers.items()]
        handlers: Any = {HTTPException: _answer_http}
        return Starlette(routes=[*routes, *self.pages], lifespan=self._lifespan, exception_handlers=handlers)

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        async with keep_current(tuple(self.served.values()), self.poll_seconds):
            yield

    def _guarded(self, answer: Endpoint, *, open_to_all: bool = False) -> Endpoint:
        async def checked(request: Request) -> Response:
            try:
                if not open_to_all:
                    self._check(request)
                return await answer(request)
            except Exception as error:  # noqa: BLE001 # whatever it is, its message is not logged
                return answer_error(request, error)

        return checked

    def _check(self, request: Request) -> Identity | None:
        self.guard.check_host(request)
        return self.guard.identify(request, "reader")

    def _may_read(self, request: Request) -> bool:
        try:
            self._check(request)
        except PenstockError:
            return False
        return True

    def _scoring(self, metrics: Metrics, format_: str, answer: Answer) -> Endpoint:
        """Return the endpoint of one format: check the request, score it, and count it."""

        async def score(request: Request) -> Response:
            begin, name = time.perf_counter(), "none"
            given = request.headers.get("x-request-id", "")
            request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
            try:
                identity = self._check(request)
                served = self._find(request)
                name = served.name
                with served.in_flight():
                    scorer = self._choose_scorer(served, request)  # whatever version is taken while the body comes
                    with served.batches.arriving():
                        body = await read_body(request, served.limits.limit.bytes)
                    client = identity.name if identity else ""
                    asked = Asked(served, scorer, request, body, request_id, client, metrics.count)
                    response = await answer_recorded(asked, answer)
            except Exception as error:  # noqa: BLE001 # whatever it is, its message is not logged
                response = answer_error(request, error)
            response.headers["x-request-id"] = request_id
            metrics.requests.labels(name, format_, response.status_code).inc()
            metrics.seconds.labels(name, format_).observe(time.perf_counter() - begin)
            return response

        return score

    def _find(self, request: Request) -> ServedPipeline:
        """Return the pipeline that the path names. `/invocations` means the only one.

        Raises:
            RequestError: it is not served.
        """
        name = request.path_params.get("pipeline")
        if name is None and len(self.served) == 1:
            return next(iter(self.served.values()))
        if name is None:
            remedy = "Use /pipelines/<pipeline>/invocations."
            raise RequestError("several pipelines are served", "/invocations", remedy, 404)
        found = self.served.get(name)
        if found is None:
            known = ", ".join(f"`{each}`" for each in self.served)
            raise RequestError("it is not served here", request.url.path, f"There are: {known}.", 404)
        return found

    def _choose_scorer(self, served: ServedPipeline, request: Request) -> Scorer:
        """Return what scores now, if it is the version that the path names.

        Raises:
            NotReady: no model stands yet.
            RequestError: another version scores.
        """
        scorer, version = served.ready, request.path_params.get("version")
        scoring = deciding_model(scorer.pins).version
        if version not in (None, scoring):
            raise RequestError(
                f"version {version} does not score", request.url.path, f"Version {scoring} scores now.", 404
            )
        return scorer

    async def _live(self, _request: Request) -> Response:
        return json_response({"live": True})

    async def _ready(self, request: Request) -> Response:
        """Say for each pipeline what scores, and what is wrong with the model that its alias names.

        Probes ask by any name and without a token: they are told only whether all is ready.
        """
        ready = all(each.scorer is not None for each in self.served.values())
        if not self._may_read(request):
            return json_response({"ready": ready}, 200 if ready else 503)
        pipelines = {
            name: {
                "ready": each.scorer is not None,
                "model": describe_pin(deciding_model(each.scorer.pins)) if each.scorer else None,
                "problem": each.problem or None,
                **({"recording": each.recorder.describe()} if each.recorder else {}),
            }
            | describe_snapshot(each)
            for name, each in self.served.items()
        }
        return json_response({"ready": ready, "pipelines": pipelines}, 200 if ready else 503)

    async def _metrics(self, metrics: Metrics, _request: Request) -> Response:
        return PlainTextResponse(metrics.write(), media_type="text/plain; version=0.0.4")

    async def _version(self, _request: Request) -> Response:
        return PlainTextResponse(penstock.__version__)

    async def _openapi(self, _request: Request) -> Response:
        return json_response(describe_api(self.served.values()))

    async def _find_score(self, request: Request) -> Response:
        given = request.path_params
        return await self._look_up(self.lookups.find_score, given["table"], given["key"])

    async def _explain(self, request: Request) -> Response:
        given = request.path_params
        return await self._look_up(self.lookups.explain, given["pipeline"], given["key"])

    async def _look_up(self, find: Callable[[str, str], dict[str, Any]], name: str, key: str) -> Response:
        if not self._lookups.acquire(blocking=False):
            raise TooManyRequests(f"{_LOOKUPS} scores are being looked up, which is the limit")
        try:
            return json_response(await run_in_threadpool(find, name, key))
        finally:
            self._lookups.release()

    async def _describe_server(self, _request: Request) -> Response:
        described = {"name": "penstock", "version": penstock.__version__, "extensions": ["binary_tensor_data"]}
        return json_response(described)

    async def _describe_model(self, request: Request) -> Response:
        scorer = self._choose_scorer(self._find(request), request)
        outputs = [{"name": name, "datatype": kind, "shape": [-1]} for name, kind in output_columns(scorer).items()]
        described = {
            "name": scorer.pipeline.name,
            "versions": [deciding_model(scorer.pins).version],
            "platform": "penstock_xgboost",
            "inputs": describe_columns(scorer),
            "outputs": outputs,
        }
        return json_response(described)

    async def _model_ready(self, request: Request) -> Response:
        served = self._find(request)
        if served.scorer is not None:
            self._choose_scorer(served, request)
        return json_response({"name": served.name, "ready": served.scorer is not None}, 200 if served.scorer else 503)


async def _answer_http(request: Request, error: Exception) -> Response:
    """Answer a path or a method that there is not."""
    assert isinstance(error, HTTPException)
    body = {"what": error.detail, "where": request.url.path, "next": "See docs/serving.md for the paths."}
    return write_problem(request, body, error.status_code, error.headers)
