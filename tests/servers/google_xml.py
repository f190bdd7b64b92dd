"""The XML API of Google Cloud Storage over the objects of gcp-storage-emulator. Run as a program with a port.

The emulator has the JSON API alone, and obstore speaks the XML API for objects. This adds the part that obstore needs,
as Google documents it: https://cloud.google.com/storage/docs/xml-api/overview. The objects are the emulator's own.
"""

import re
import sys
import threading
from datetime import datetime
from email.utils import format_datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers.buckets import create_bucket
from gcp_storage_emulator.handlers.objects import _checksums, _make_object_resource
from gcp_storage_emulator.storage import Storage

PAGE = 1000
_one_at_a_time = threading.Lock()


class XmlApi(BaseHTTPRequestHandler):
    """Objects and listings of buckets."""

    protocol_version = "HTTP/1.1"

    def __init__(self, storage: Storage, *args: object) -> None:
        self.storage = storage
        super().__init__(*args)  # type: ignore[arg-type] # the three of the base class

    def do_GET(self) -> None:
        bucket, key, query = self._asked()
        with _one_at_a_time:
            if key:
                self._read(bucket, key)
            else:
                self._list(bucket, query)

    def do_HEAD(self) -> None:
        bucket, key, _ = self._asked()
        with _one_at_a_time:
            self._read(bucket, key, body=False)

    def do_PUT(self) -> None:
        bucket, key, _ = self._asked()
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with _one_at_a_time:
            if not key:
                create_bucket(bucket, self.storage)
                return self._send(200)
            expected = self.headers.get("x-goog-if-generation-match")
            found = self._find(bucket, key)
            if expected is not None and expected != (found["generation"] if found else "0"):
                return self._send(412, b"<Error><Code>PreconditionFailed</Code></Error>")
            made = _checksums(content, _make_object_resource("", bucket, key, "application/octet-stream", len(content)))
            try:
                self.storage.create_file(bucket, key, content, made)
            except NotFound:
                return self._send(404, b"<Error><Code>NoSuchBucket</Code></Error>")
            self._send(200, headers=_headers(made))

    def do_DELETE(self) -> None:
        bucket, key, _ = self._asked()
        with _one_at_a_time:
            if not self._find(bucket, key):
                return self._send(404, b"<Error><Code>NoSuchKey</Code></Error>")
            self.storage.delete_file(bucket, key)
        self._send(204)

    def _asked(self) -> tuple[str, str, dict[str, list[str]]]:
        parts = urlsplit(self.path)
        bucket, _, key = parts.path.lstrip("/").partition("/")
        return unquote(bucket), unquote(key), parse_qs(parts.query)

    def _find(self, bucket: str, key: str) -> Any:
        try:
            return self.storage.get_file_obj(bucket, key)
        except NotFound:
            return None

    def _read(self, bucket: str, key: str, body: bool = True) -> None:
        found = self._find(bucket, key)
        if found is None:
            return self._send(404, b"<Error><Code>NoSuchKey</Code></Error>", body=body)
        headers, content = _headers(found), self.storage.get_file(bucket, key)
        if self.headers.get("If-Match", headers["ETag"]) not in (headers["ETag"], "*"):
            return self._send(412, b"", headers, body)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            return self._send(200, content, headers, body)
        start, end = int(asked[1]), min(int(asked[2]) + 1, len(content)) if asked[2] else len(content)
        if start >= len(content):
            return self._send(416, b"", headers | {"Content-Range": f"bytes */{len(content)}"}, body)
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        self._send(206, content[start:end], headers, body)

    def _list(self, bucket: str, query: dict[str, list[str]]) -> None:
        prefix, delimiter = query.get("prefix", [""])[0], query.get("delimiter", [None])[0]
        try:
            objects, folders = self.storage.get_file_list(bucket, prefix, delimiter)
        except NotFound:
            return self._send(404, b"<Error><Code>NoSuchBucket</Code></Error>")
        start = query.get("continuation-token", [""])[0]
        page = [each for each in objects if each["name"] > start]
        more = page[PAGE:]
        contents = "".join(
            f"<Contents><Key>{escape(each['name'])}</Key><LastModified>{each['updated']}</LastModified>"
            f"<ETag>{_tag(each)}</ETag><Size>{each['size']}</Size></Contents>"
            for each in page[:PAGE]
        )
        named = "".join(f"<CommonPrefixes><Prefix>{escape(f)}</Prefix></CommonPrefixes>" for f in folders if f > start)
        token = f"<NextContinuationToken>{escape(page[PAGE - 1]['name'])}</NextContinuationToken>" if more else ""
        answer = f"<ListBucketResult>{contents}{named}{token}</ListBucketResult>"
        self._send(200, answer.encode(), {"Content-Type": "application/xml"})

    def _send(
        self, status: int, content: bytes = b"", headers: dict[str, str] | None = None, body: bool = True
    ) -> None:
        self.send_response(status)
        for name, value in ((headers or {}) | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _tag(found: dict[str, Any]) -> str:
    return f'"{found["generation"]}"'


def _headers(found: dict[str, Any]) -> dict[str, str]:
    written = datetime.fromisoformat(found["updated"].replace("Z", "+00:00"))
    return {
        "ETag": _tag(found),
        "x-goog-generation": found["generation"],
        "Last-Modified": format_datetime(written, usegmt=True),
    }


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), partial(XmlApi, Storage(use_memory_fs=True))).serve_forever()
