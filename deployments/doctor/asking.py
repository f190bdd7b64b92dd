"""A client of the Prefect server that gives up within seconds."""

from collections.abc import Iterator
from contextlib import contextmanager

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED,
    temporary_settings,
)

ANSWER_SECONDS = 10.0


@contextmanager
def client_of(api_url: str) -> Iterator[SyncPrefectClient]:
    """Yield a client without Prefect's version check, because the doctor checks versions itself."""
    own = {PREFECT_API_URL: api_url, PREFECT_CLIENT_MAX_RETRIES: 1, PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED: False}
    with temporary_settings(own), get_client({"timeout": ANSWER_SECONDS}, sync_client=True) as client:
        yield client
