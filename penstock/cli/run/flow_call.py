"""Call the scoring flow in this process, and return how it ended."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from penstock.errors import PenstockError


@dataclass(frozen=True)
class FlowEnd:
    """How the flow run ended in Prefect. The ledger says what was done."""

    flow_run_id: str | None
    error: BaseException | str | None

    @property
    def exit_code(self) -> int:
        return self.error.exit_code if isinstance(self.error, PenstockError) else 1 if self.error else 0


def call_score(api_url: str, **parameters: Any) -> FlowEnd:
    """Run `penstock.flows.score.score` against a Prefect API. Parameters that are None use the flow's default."""
    import httpx

    read_before = "prefect" in sys.modules

    from penstock.deployments.worker.flow_run import load

    load()
    from prefect.exceptions import PrefectException

    from penstock.flows.score import score
    from penstock.tasks import process_resources

    given = {name: value for name, value in parameters.items() if value is not None}
    process_resources.settings.cache_clear()  # the environment may have changed since an earlier call in this process
    with _connected_to(api_url) if read_before else nullcontext():
        try:
            state = score(**given, return_state=True)
        except (PrefectException, httpx.HTTPError, OSError) as error:
            return FlowEnd(None, error)
        flow_run_id = state.state_details.flow_run_id
        failed = state.is_failed() or state.is_crashed() or state.is_cancelled()
        return FlowEnd(str(flow_run_id) if flow_run_id else None, _error_of(state) if failed else None)


@contextmanager
def _connected_to(api_url: str) -> Iterator[None]:
    """Read Prefect's settings again, which takes 0.2 s. They were read for something else, when it was imported."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: api_url}):
        yield


def _error_of(state: Any) -> BaseException | str:
    """Return the exception of a state, or its message."""
    from prefect.exceptions import MissingResult

    try:
        result = state.result(raise_on_failure=False)
    except MissingResult:
        result = None
    return result if isinstance(result, BaseException) else str(state.message or state.name)
