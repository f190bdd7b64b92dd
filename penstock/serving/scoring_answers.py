"""What the endpoints that score answer, in each format."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pyarrow as pa
from starlette.requests import Request
from starlette.responses import Response

from penstock.errors import RequestError, RowsRefused
from penstock.run_types import deciding_model
from penstock.serving.answers import answer_rows, json_response
from penstock.serving.bodies import parse_json, read_rows
from penstock.serving.mlflow_format import read_invocation
from penstock.serving.open_inference import read_infer, write_outputs
from penstock.serving.problems import answer_error
from penstock.serving.recorded_answers import read_key, record_answer
from penstock.serving.scored_request import RequestRows, ScoredRequest
from penstock.serving.scorer import Scorer
from penstock.serving.served_pipeline import ServedPipeline
from penstock.serving.top_reasons import find_top_reasons
from penstock.wording import plural


@dataclass
class Asked:
    """A request for scores, whose body has been read."""

    served: ServedPipeline
    scorer: Scorer
    """Reads the body, and scores it: a model that comes between may take other columns."""
    request: Request
    body: bytes
    request_id: str
    client: str
    """The name of its token. Empty without one."""
    count: Callable[[ScoredRequest], None]
    scored: ScoredRequest | None = None
    """None before it is scored."""

    @property
    def most(self) -> int:
        """Most rows of a request."""
        return self.served.limits.limit.rows

    async def score(self, rows: RequestRows) -> ScoredRequest:
        self.scored = await self.served.batches.score(rows, self.scorer.score_together)
        self.count(self.scored)
        return self.scored


Answer = Callable[[Asked], Awaitable[Response]]


async def answer_recorded(asked: Asked, answer: Answer) -> Response:
    """Answer a request, and record what was scored first if its pipeline records."""
    recorder = asked.served.recorder
    if recorder is None:
        return await answer(asked)
    read_key(asked.request)
    try:
        response = await answer(asked)
    except RowsRefused as error:
        response = answer_error(asked.request, error)
    if asked.scored is None or not asked.scored.outcomes:
        return response
    return await record_answer(recorder, asked.scored, asked.request, asked.body, asked.client, response)


async def answer_score(asked: Asked) -> Response:
    with_reasons, body = _asks_for_reasons(asked.request), parse_json(asked.request, asked.body)
    scored = await asked.score(read_rows(asked.scorer, body, asked.request_id, asked.most))
    if all(outcome.status != "scored" for outcome in scored.outcomes):
        _refuse(scored)
    reasons, served = None, asked.served
    if with_reasons:
        reasons = await served.batches.run(find_top_reasons, served.pipeline, scored, served.options.masking)
    return json_response(answer_rows(scored, reasons))


def _asks_for_reasons(request: Request) -> bool:
    given = request.query_params.get("reasons", "false")
    if given not in ("true", "false"):
        raise RequestError("it is neither true nor false", "query parameter `reasons`", "Send `reasons=true`.")
    return given == "true"


async def answer_invocation(asked: Asked) -> Response:
    rows = read_invocation(asked.request, asked.scorer, asked.body, asked.request_id, asked.most)
    return json_response({"predictions": _all_outputs(await asked.score(rows)).to_pylist()})


async def answer_infer(asked: Asked) -> Response:
    infer = read_infer(asked.request, asked.scorer, asked.body, asked.request_id, asked.most)
    scored = await asked.score(infer.rows)
    version = deciding_model(scored.models).version
    head = {"model_name": asked.served.name, "model_version": version, "id": infer.id}
    content, headers = write_outputs(infer, _all_outputs(scored), head)
    return Response(content, headers=headers)


def _all_outputs(scored: ScoredRequest) -> pa.Table:
    """Return the outputs of all rows, in their order.

    Raises:
        RowsRefused: a row has none.
    """
    if scored.refused:
        _refuse(scored)
    return scored.outputs


def _refuse(scored: ScoredRequest) -> None:
    rows = scored.refused
    what = f"{len(rows):,} of {plural(len(scored.outcomes), 'row')} without a score"
    raise RowsRefused(
        what, f"rows of `{scored.pipeline.name}`", "Correct or leave out the rows that are named.", rows=rows
    )
