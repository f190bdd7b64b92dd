"""An Azure Blob Storage server: Azurite, whose program `azurite-blob` npm installs."""

import base64
import hashlib
import hmac
import shutil
import uuid
from email.utils import formatdate
from typing import Any
from urllib.request import Request, urlopen

from tests.servers.processes import ServerProcess, StoreServer, free_ports

INSTALLED = shutil.which("azurite-blob")
SKIPPED = "azurite-blob is not installed (npm: azurite)"
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The key of the emulator's account, which its documentation publishes."""


class AzureServer(StoreServer):
    """A server in a folder."""

    @property
    def url(self) -> str:
        return f"{super().url}/{ACCOUNT}"

    def start(self) -> None:
        (self.port,) = free_ports(1)
        where = ("--blobHost", "127.0.0.1", "--blobPort", str(self.port), "--location", str(self.folder))
        command = (str(INSTALLED), *where, "--silent", "--skipApiVersionCheck", "--disableTelemetry")
        self.server = ServerProcess.start(command, self.folder / "log")
        self.server.wait_for(self.port)

    def environment(self, endpoint: str | None = None) -> dict[str, str]:
        """Return the variables by which a client finds the server, or a proxy in front of it."""
        return {
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": KEY,
            "AZURE_STORAGE_ENDPOINT": endpoint or self.url,
        }

    def make_container(self) -> str:
        name = f"container-{uuid.uuid4().hex[:12]}"
        date = formatdate(usegmt=True)
        signed = (
            "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:2021-08-06\n/{ACCOUNT}/{ACCOUNT}/{name}\n"
            "restype:container"
        )
        digest = hmac.new(base64.b64decode(KEY), signed.encode(), hashlib.sha256).digest()
        headers = {
            "x-ms-date": date,
            "x-ms-version": "2021-08-06",
            "Content-Length": "0",
            "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}",
        }
        urlopen(Request(f"{self.url}/{name}?restype=container", method="PUT", headers=headers)).close()
        return name

    def store(self, container: str) -> Any:
        """Open a container by the library alone, as the tests' own way to it."""
        from obstore.store import AzureStore

        return AzureStore(
            container,
            account_name=ACCOUNT,
            account_key=KEY,
            endpoint=self.url,
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
        )
