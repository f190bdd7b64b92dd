"""A web server with a folder of files, which has ETags and ranges as a real one has."""

import hashlib
import re
from email.utils import formatdate
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.servers.threads import QuietHandler, ThreadServer

IF_MATCH = "If-Match"
"""A test may change it, for a server that does not know the condition."""


class WebServer(ThreadServer):
    """A web server with the files of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__(partial(_Files, folder))


class _Files(QuietHandler, BaseHTTPRequestHandler):  # named for the linter: do_GET is no method of ours
    def __init__(self, folder: Path, *args: object) -> None:
        self.folder = folder
        super().__init__(*args)  # type: ignore[arg-type] # the three of the base class

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, body: bool) -> None:
        path = self.folder / unquote(urlsplit(self.path).path).lstrip("/")
        if ".." in path.parts or not path.is_file():
            return self._send(404, b"not found", {}, body)
        content = path.read_bytes()
        tag = '"' + hashlib.md5(content, usedforsecurity=False).hexdigest() + '"'
        headers = {
            "ETag": tag,
            "Accept-Ranges": "bytes",
            "Last-Modified": formatdate(path.stat().st_mtime, usegmt=True),
        }
        if self.headers.get(IF_MATCH, tag) not in (tag, "*"):
            return self._send(412, b"", headers, body)
        given = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if given is None or given.groups() == ("", ""):
            return self._send(200, content, headers, body)
        first, last = given.groups()
        start = int(first) if first else max(len(content) - int(last), 0)
        end = min(int(last) + 1, len(content)) if first and last else len(content)
        if start >= len(content):
            return self._send(416, b"", headers | {"Content-Range": f"bytes */{len(content)}"}, body)
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        self._send(206, content[start:end], headers, body)

    def _send(self, status: int, content: bytes, headers: dict[str, str], body: bool) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)
