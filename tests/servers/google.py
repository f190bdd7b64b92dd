"""A server for Google Cloud Storage: gcp-storage-emulator's objects by the XML API."""

import sys
import uuid
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tests.servers.processes import ServerProcess, StoreServer, free_ports

INSTALLED = find_spec("gcp_storage_emulator") is not None
SKIPPED = "gcp-storage-emulator is not installed"


class GoogleServer(StoreServer):
    """A server with its objects in memory."""

    def start(self) -> None:
        (self.port,) = free_ports(1)
        program = Path(__file__).with_name("google_xml.py")
        self.server = ServerProcess.start([sys.executable, str(program), str(self.port)], self.folder / "log")
        self.server.wait_for(self.port)

    def environment(self, endpoint: str | None = None) -> dict[str, str]:
        """Return the variables by which a client finds the server, or a proxy in front of it."""
        return {"GOOGLE_BASE_URL": endpoint or self.url, "GOOGLE_BEARER_TOKEN": "any"}

    def make_bucket(self) -> str:
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        urlopen(Request(f"{self.url}/{name}", method="PUT")).close()
        return name

    def store(self, bucket: str) -> Any:
        """Open a bucket by the library alone, as the tests' own way to it."""
        from obstore.store import GCSStore

        return GCSStore(
            bucket,
            base_url=self.url,
            bearer_token="any",
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
        )
