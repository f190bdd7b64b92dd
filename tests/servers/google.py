"""A server for Google Cloud Storage: gcp-storage-emulator's objects by the XML API."""

import json
import sys
import uuid
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tests.servers.processes import ServerProcess, free_ports

INSTALLED = find_spec("gcp_storage_emulator") is not None
SKIPPED = "gcp-storage-emulator is not installed"


@dataclass
class GoogleServer:
    """A server with its objects in memory."""

    folder: Path
    port: int = 0
    server: ServerProcess | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        (self.port,) = free_ports(1)
        program = Path(__file__).with_name("google_xml.py")
        self.server = ServerProcess.start([sys.executable, str(program), str(self.port)], self.folder / "log")
        self.server.wait_for(self.port)

    def stop(self) -> None:
        if self.server is not None:
            self.server.stop()

    def environment(self, endpoint: str | None = None) -> dict[str, str]:
        """Return the variables by which a client finds the server, or a proxy in front of it."""
        return {"GOOGLE_SERVICE_ACCOUNT_KEY": self._account(endpoint or self.url)}

    def make_bucket(self) -> str:
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        urlopen(Request(f"{self.url}/{name}", method="PUT")).close()
        return name

    def store(self, bucket: str) -> Any:
        """Open a bucket by the library alone, as the tests' own way to it."""
        from obstore.store import GCSStore

        return GCSStore(
            bucket,
            service_account_key=self._account(self.url),
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
        )

    @staticmethod
    def _account(endpoint: str) -> str:
        """A service account's key, which also names the endpoint. The server asks for no token."""
        empty = {"client_email": "", "private_key": "", "private_key_id": ""}
        return json.dumps({"gcs_base_url": endpoint, "disable_oauth": True, **empty})
