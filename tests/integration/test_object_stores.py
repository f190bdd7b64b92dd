"""Objects of real stores: lists, states, reads that are bound to a state, writes under a condition, and faults."""

import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import obstore
import pytest

from penstock.errors import ObjectChanged, ObjectNotFound, SettingsError, StoreRefused, StoreUnavailable, TransientError
from penstock.object_stores import list_files, open_file, parse_access, read_bytes, read_state, write_bytes
from penstock.run_types import FileState
from tests.servers import web
from tests.servers.azure import AzureServer
from tests.servers.faulty import Fault, FaultyProxy
from tests.servers.google import GoogleServer
from tests.servers.s3 import S3Server
from tests.servers.web import WebServer

BODY = bytes(range(256)) * 36_000
"""Nine million bytes: more than a block, and less than what one request fetches at most."""
SCHEMES = ("s3", "gs", "az")
_BUCKETS: dict[str, str] = {}
"""One of each server, because SeaweedFS has a limit. Each test has a folder in it."""


@pytest.fixture
def use_store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[str, Any]]:
    """Point the environment at a server. Return the URL of a new bucket, and the bucket itself."""

    def use(scheme: str) -> tuple[str, Any]:
        name = {"s3": "s3_server", "gs": "google_server", "az": "azure_server"}[scheme]
        server: S3Server | GoogleServer | AzureServer = request.getfixturevalue(name)
        for variable, value in server.environment().items():
            monkeypatch.setenv(variable, value)
        if scheme not in _BUCKETS:
            _BUCKETS[scheme] = server.make_container() if isinstance(server, AzureServer) else server.make_bucket()
        bucket, folder = _BUCKETS[scheme], uuid.uuid4().hex
        return f"{scheme}://{bucket}/{folder}", server.store(bucket)

    return use


@pytest.fixture
def faulty(s3_server: S3Server, faulty_s3: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> tuple[FaultyProxy, str]:
    """Point the environment at a proxy before the S3 server, and return the URL of a large object."""
    for variable, value in s3_server.environment(endpoint=faulty_s3.url).items():
        monkeypatch.setenv(variable, value)
    url = f"s3://{_BUCKETS.setdefault('s3', s3_server.make_bucket())}/{uuid.uuid4().hex}/large.bin"
    write_bytes(url, BODY)
    return faulty_s3, url


def names(root: str, pattern: str) -> list[str]:
    return [state.path.removeprefix(f"{root}/") for state in list_files(f"{root}/{pattern}")]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_object_is_listed_and_read_as_it_was_written(
    scheme: str, use_store: Callable[[str], tuple[str, Any]]
) -> None:
    root, _ = use_store(scheme)
    keys = ["a b.csv", "c%20d.csv", "e#f.csv", "g+h.csv", "ü.csv", "i[1].csv", "day=2026-01-01/j.csv"]
    for key in keys:
        write_bytes(f"{root}/in/{key}", key.encode())

    found = list_files(f"{root}/in/**/*.csv")

    assert sorted(state.path for state in found) == sorted(f"{root}/in/{key}" for key in keys)
    for state in found:
        key = state.path.removeprefix(f"{root}/in/")
        assert (state.size, read_bytes(state.path)) == (len(key.encode()), key.encode())
        assert read_state(state.path).digest == state.digest != ""
        with open_file(state) as file:
            assert file.read() == key.encode()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_object_that_is_replaced_is_not_read(scheme: str, use_store: Callable[[str], tuple[str, Any]]) -> None:
    root, _ = use_store(scheme)
    write_bytes(f"{root}/a.bin", b"first")
    state = read_state(f"{root}/a.bin")

    with open_file(state) as file:
        write_bytes(f"{root}/a.bin", b"other")
        with pytest.raises(ObjectChanged):
            file.read()

    assert read_state(f"{root}/a.bin") != state


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_write_under_a_condition_that_fails_writes_nothing(
    scheme: str, use_store: Callable[[str], tuple[str, Any]]
) -> None:
    root, _ = use_store(scheme)
    first = write_bytes(f"{root}/a.bin", b"first", if_absent=True)
    with pytest.raises(ObjectChanged):
        write_bytes(f"{root}/a.bin", b"other", if_absent=True)
    assert read_bytes(f"{root}/a.bin") == b"first"

    write_bytes(f"{root}/a.bin", b"second", if_match=first)
    with pytest.raises(ObjectChanged):
        write_bytes(f"{root}/a.bin", b"other", if_match=first)
    assert read_bytes(f"{root}/a.bin") == b"second"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_object_that_is_not_there_is_named(scheme: str, use_store: Callable[[str], tuple[str, Any]]) -> None:
    root, _ = use_store(scheme)
    write_bytes(f"{root}/a.bin", b"")

    assert list_files(f"{root}/none/*.csv") == []
    assert list_files(f"{root}/none.csv") == []
    with pytest.raises(ObjectNotFound, match=r"none\.csv"):
        read_state(f"{root}/none.csv")
    missing = f"{scheme}://no-such-bucket-{os.getpid()}"
    for pattern in (f"{missing}/*.csv", f"{missing}/a.csv"):
        with pytest.raises(StoreRefused, match="there is no"):
            list_files(pattern)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_markers_of_folders_are_no_files(scheme: str, use_store: Callable[[str], tuple[str, Any]]) -> None:
    root, store = use_store(scheme)
    folder = root.rpartition("/")[2]
    for key in ("in/", "in/sub/", "in/sub", "in/sub/a.csv", "in/b"):
        try:
            obstore.put(store, f"{folder}/{key}", b"" if not key.endswith("csv") else b"x")
        except Exception:  # noqa: BLE001 # a store with folders may refuse one of the two names
            continue

    assert names(root, "in/sub/*") == ["in/sub/a.csv"]
    assert [name for name in names(root, "in/**") if name != "in/b"] == ["in/sub/a.csv"]
    assert [name for name in names(root, "in/*") if name != "in/b"] == []


def test_only_the_folder_before_the_first_wildcard_is_listed(
    s3_server: S3Server, faulty_s3: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in s3_server.environment(endpoint=faulty_s3.url).items():
        monkeypatch.setenv(variable, value)
    folder = uuid.uuid4().hex
    root = f"s3://{_BUCKETS.setdefault('s3', s3_server.make_bucket())}/{folder}"
    for day in range(1, 9):
        for shop in ("a", "b"):
            write_bytes(f"{root}/in/2026/01/0{day}/{shop}/x.csv", b"1")
    faulty_s3.seen.clear()

    assert names(root, "in/2026/01/03/*/x.csv") == ["in/2026/01/03/a/x.csv", "in/2026/01/03/b/x.csv"]

    listed = [seen.path for seen in faulty_s3.seen]
    assert len(listed) == 3  # the day, and the folder of each shop
    assert all(f"prefix={folder}%2Fin%2F2026%2F01%2F03%2F" in path for path in listed)


def test_a_list_of_several_pages_is_whole(use_store: Callable[[str], tuple[str, Any]]) -> None:
    root, store = use_store("s3")
    for number in range(1_005):
        obstore.put(store, f"{root.rpartition('/')[2]}/in/{number:04}.csv", b"1")

    assert names(root, "in/*.csv") == [f"in/{number:04}.csv" for number in range(1_005)]
    assert len(names(root, "**/*.csv")) == 1_005


def test_a_range_of_an_object_is_fetched_without_the_rest(faulty: tuple[FaultyProxy, str]) -> None:
    proxy, url = faulty
    state = read_state(url)
    proxy.seen.clear()

    with open_file(state, block_bytes=1000) as file:
        file.seek(5_000_000)
        assert file.read(10) == BODY[5_000_000:5_000_010]
        file.seek(-4, os.SEEK_END)
        assert file.read() == BODY[-4:]

    ranges = [seen.headers.get("range", seen.headers.get("Range")) for seen in proxy.seen]
    assert ranges == ["bytes=5000000-5000999", f"bytes={len(BODY) - 4}-{len(BODY) - 1}"]


FAULTS = {
    "503": Fault(methods=("GET",), status=503, times=3),
    "429": Fault(methods=("GET",), status=429, times=2),
    "a cut body": Fault(methods=("GET",), cut_after=1000, times=2),
    "a lost answer": Fault(methods=("GET",), lose_answer=True, times=2),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_that_passes_does_no_harm(fault: Fault, faulty: tuple[FaultyProxy, str]) -> None:
    proxy, url = faulty
    proxy.spoil(fault)

    assert read_bytes(url) == BODY


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_that_stays_is_an_error_that_is_tried_again_later(
    fault: Fault, faulty: tuple[FaultyProxy, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.object_stores.access._RETRIES", 1)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "")  # another environment, so that the store is opened anew
    proxy, url = faulty
    proxy.spoil(Fault(**{**vars(fault), "times": float("inf")}))

    with pytest.raises(StoreUnavailable) as caught:
        read_bytes(url)

    assert isinstance(caught.value, TransientError)


def test_an_object_that_is_replaced_between_two_ranges_is_not_mixed(faulty: tuple[FaultyProxy, str]) -> None:
    proxy, url = faulty
    state = read_state(url)
    proxy.spoil(Fault(methods=("GET",), after=1, first=lambda: write_bytes(url, bytes(len(BODY)))))

    with open_file(state) as file, pytest.raises(ObjectChanged):
        list(iter(lambda: file.read(1_000_000), b""))


def test_access_that_is_denied_shows_no_secret(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, use_store: Callable[[str], tuple[str, Any]]
) -> None:
    root, _ = use_store("s3")
    write_bytes(f"{root}/a.csv", b"1")
    for variable, value in s3_server.environment("nobody").items():
        monkeypatch.setenv(variable, value)
    for refused in (lambda: list_files(f"{root}/*"), lambda: read_state(f"{root}/a.csv")):
        with pytest.raises(StoreRefused, match="access is denied") as caught:
            refused()
        assert "nobody" not in str(caught.value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    with pytest.raises(StoreRefused, match="access is denied") as caught:
        list_files(f"{root}/*")
    assert "hunter2" not in str(caught.value)


def test_a_store_is_opened_with_the_options_of_a_connection(
    s3_server: S3Server, use_store: Callable[[str], tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _ = use_store("s3")
    write_bytes(f"{root}/a.csv", b"1")
    for variable in s3_server.environment():
        monkeypatch.delenv(variable)
    options = (
        f'{{"endpoint": "{s3_server.url}", "region": "us-east-1", "access_key_id": "owner", '
        '"secret_access_key": "owner-secret"}'
    )

    access = parse_access("lake", options)

    assert [state.size for state in list_files(f"{root}/*", access)] == [1]
    assert read_bytes(f"{root}/a.csv", access) == b"1"
    assert "owner-secret" not in repr(access)


@pytest.mark.parametrize("text", ["postgresql://a:hunter2@b/c", '["hunter2"]', '{"a": ["hunter2"]}'])
def test_a_connection_without_options_of_a_store_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="PENSTOCK_CONNECTIONS__LAKE") as caught:
        parse_access("lake", text)
    assert "hunter2" not in str(caught.value)


def test_an_option_that_no_store_knows_is_refused() -> None:
    with pytest.raises(SettingsError, match="does not know"):
        list_files("s3://b/*", parse_access("lake", '{"colour": "hunter2"}'))


def test_a_file_of_a_web_server_is_read_by_its_state(web_server: WebServer) -> None:
    (web_server.folder / "a b#ü.csv").write_bytes(b"first")
    url = f"{web_server.url}/a%20b%23%C3%BC.csv"

    [state] = list_files(url)

    assert (state.path, state.size) == (url, 5)
    with open_file(state) as file:
        file.seek(1)
        assert file.read(3) == b"irs"
    (web_server.folder / "a b#ü.csv").write_bytes(b"other")
    with open_file(state) as file, pytest.raises(ObjectChanged):
        file.read()
    assert list_files(f"{web_server.url}/none.csv") == []


class _Odd(BaseHTTPRequestHandler):
    """Answers with the headers and the status that a test states."""

    status, headers_sent = 200, {"Content-Length": "5", "ETag": '"x"'}

    def do_HEAD(self) -> None:
        self.send_response(self.status)
        for name, value in self.headers_sent.items():
            self.send_header(name, value)
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(b"whole")

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def odd_server(status: int, **headers: str) -> Iterator[str]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    handler = type("Odd", (_Odd,), {"status": status, "headers_sent": sent})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/a.csv"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (200, {"Content_Length": "5"}, "neither ETag nor Last-Modified"),
        (200, {"ETag": '"x"'}, "no length"),
        (200, {"ETag": '"x"', "Content_Length": "5"}, "no part of it"),
        (401, {}, "does not log in to a web server"),
        (405, {}, "it answers 405"),
    ],
)
def test_a_web_server_that_cannot_be_read_safely_is_refused(status: int, headers: dict[str, str], said: str) -> None:
    with odd_server(status, **headers) as url, pytest.raises(StoreRefused, match=said):
        read_bytes(url)


class _WeakTag(_Odd):
    """Has a weak ETag, which by the rules of HTTP matches no `If-Match`."""

    def do_GET(self) -> None:
        self.status = 412 if "If-Match" in self.headers else 206
        super().do_GET()


@pytest.mark.parametrize("tag", ['W/"x"', '"x"'])
def test_a_weak_etag_is_compared_and_not_made_a_condition(tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}._Odd", _WeakTag)
    with odd_server(200, ETag=tag, Content_Length="5", Content_Range="bytes 0-4/5") as url:
        state = read_state(url)
        with open_file(state) as file:
            if tag.startswith("W/"):
                assert file.read() == b"whole"
                return
            with pytest.raises(ObjectChanged):
                file.read()


def test_an_answer_that_is_shorter_than_what_was_asked_for_is_an_error() -> None:
    headers = {"ETag": '"x"', "Content_Length": "3", "Content_Range": "bytes 0-4/5"}
    with odd_server(206, **headers) as url, pytest.raises(StoreUnavailable, match="3 bytes came instead of 5"):
        open_file(FileState(url, 5, 0, '"x"', "", 0)).read()


def test_a_server_that_does_not_know_conditions_gives_no_other_file(
    web_server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer says which file it is of."""
    monkeypatch.setattr(web, "IF_MATCH", "X-Unknown")
    (web_server.folder / "a.csv").write_bytes(b"first")
    [state] = list_files(f"{web_server.url}/a.csv")
    (web_server.folder / "a.csv").write_bytes(b"other")
    with open_file(state) as file, pytest.raises(ObjectChanged, match="was replaced"):
        file.read()


def test_a_forked_process_is_refused_where_it_would_wait_for_ever(use_store: Callable[[str], tuple[str, Any]]) -> None:
    root, _ = use_store("s3")
    write_bytes(f"{root}/a.csv", b"1")
    code = (
        "import os, sys\n"
        "from penstock.errors import StoreRefused\n"
        "from penstock.object_stores import read_bytes\n"
        "read_bytes(sys.argv[1])\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    try:\n"
        "        read_bytes(sys.argv[1])\n"
        "    except StoreRefused:\n"
        "        os._exit(3)\n"
        "    os._exit(0)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, f"{root}/a.csv"], check=False, timeout=60)
    assert done.returncode == 3


def list_of(*keys: str) -> bytes:
    """Write the answer to a request for a list, as S3 gives it. An object whose key ends in a slash is empty."""
    entries = (
        f"<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;x&quot;</ETag>"
        f"<Size>{0 if key.endswith('/') else 1}</Size></Contents>"
        for key in keys
    )
    return f"<ListBucketResult><IsTruncated>false</IsTruncated>{''.join(entries)}</ListBucketResult>".encode()


@pytest.mark.parametrize("key", ["in//b.csv", "in/./b.csv", "in/b\x07.csv"])
def test_a_key_that_is_not_read_is_no_reason_for_a_short_list(key: str, faulty: tuple[FaultyProxy, str]) -> None:
    proxy, url = faulty
    proxy.spoil(Fault(path="list-type", status=200, body=list_of("in/a.csv", key), times=float("inf")))

    with pytest.raises(StoreRefused, match="such objects are not read"):
        list_files(f"{url.rpartition('/')[0]}/in/*.csv")


def test_a_marker_of_an_empty_folder_is_no_file(faulty: tuple[FaultyProxy, str]) -> None:
    proxy, url = faulty
    root = url.rpartition("/")[0]
    folder = root.rpartition("/")[2]
    proxy.spoil(Fault(path="list-type", status=200, body=list_of(f"{folder}/a/", f"{folder}/large.bin")))

    assert names(root, "**") == ["large.bin"]


def test_a_page_in_place_of_a_list_is_not_an_empty_list(faulty: tuple[FaultyProxy, str]) -> None:
    proxy, url = faulty
    page = Fault(methods=("GET", "HEAD"), status=200, body=b"<html>Log in</html>", times=float("inf"))
    proxy.spoil(page)

    with pytest.raises((StoreRefused, StoreUnavailable)):
        list_files(f"{url.rpartition('/')[0]}/*")


def test_a_list_that_is_cut_is_asked_for_again(faulty: tuple[FaultyProxy, str]) -> None:
    proxy, url = faulty
    root = url.rpartition("/")[0]
    proxy.spoil(Fault(path="list-type", cut_after=150))
    assert names(root, "*") == ["large.bin"]

    proxy.spoil(Fault(path="list-type", cut_after=150, times=float("inf")))
    with pytest.raises(StoreUnavailable):
        names(root, "*")


def test_without_obstore_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    url = f"s3://bucket-{uuid.uuid4().hex}/a.csv"
    for use in (lambda: list_files(f"{url}*"), lambda: read_state(url), lambda: write_bytes(url, b"")):
        with pytest.raises(SettingsError, match=r"penstock\[object-stores\]"):
            use()
