"""The object stores that the tests use: what each of them promises, and what the proxy spoils."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.servers.faulty import EMPTY_LISTING, Fault, FaultyProxy
from tests.servers.s3 import S3Server
from tests.servers.web import WebServer

obstore = pytest.importorskip("obstore", reason="obstore is not installed (the extra `object-stores`)")
SERVERS = ("s3", "azure", "google")


@pytest.fixture
def new_store(request: pytest.FixtureRequest) -> Callable[[str], Any]:
    """Open a new bucket or container of a server."""

    def make(name: str) -> Any:
        server = request.getfixturevalue(f"{name}_server")
        return server.store((server.make_container if name == "azure" else server.make_bucket)())

    return make


def version_of(meta: Any) -> Any:
    return {name: meta[name] for name in ("e_tag", "version") if meta[name]}


@pytest.mark.parametrize("name", SERVERS)
def test_of_writers_at_once_one_creates_an_object_and_one_replaces_it(
    new_store: Callable[[str], Any], name: str
) -> None:
    store = new_store(name)

    def attempt(mode: Any, number: int) -> bool:
        try:
            obstore.put(store, "models/a b+c.json", str(number).encode(), mode=mode)
        except (obstore.exceptions.AlreadyExistsError, obstore.exceptions.PreconditionError):
            return False
        return True

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(lambda number: attempt("create", number), range(4))) == 1
        seen = version_of(obstore.head(store, "models/a b+c.json"))
        assert sum(threads.map(lambda number: attempt(seen, 10 + number), range(4))) == 1
    assert [meta["path"] for page in obstore.list(store, prefix="models") for meta in page] == ["models/a b+c.json"]
    assert obstore.list_with_delimiter(store)["common_prefixes"] == ["models"]


@pytest.mark.parametrize("name", SERVERS)
def test_a_range_is_bound_to_the_state_of_the_object(new_store: Callable[[str], Any], name: str) -> None:
    store = new_store(name)
    obstore.put(store, "one", b"0123456789")
    seen = obstore.head(store, "one")["e_tag"]
    assert bytes(obstore.get(store, "one", options={"range": (2, 5), "if_match": seen}).bytes()) == b"234"

    obstore.put(store, "one", b"abcdefghij")

    with pytest.raises(obstore.exceptions.PreconditionError):
        obstore.get(store, "one", options={"range": (2, 5), "if_match": seen})


def test_the_web_server_gives_ranges_of_one_state(web_server: WebServer) -> None:
    store = obstore.store.HTTPStore.from_url(web_server.url, client_options={"allow_http": True})
    (web_server.folder / "one.csv").write_text("0123456789")
    seen = obstore.head(store, "one.csv")["e_tag"]
    assert bytes(obstore.get(store, "one.csv", options={"range": (2, 5), "if_match": seen}).bytes()) == b"234"

    (web_server.folder / "one.csv").write_text("abcdefghij")

    with pytest.raises(obstore.exceptions.PreconditionError):
        obstore.get(store, "one.csv", options={"if_match": seen})


def test_the_proxy_passes_requests_on_and_spoils_those_that_a_test_chooses(
    s3_server: S3Server, faulty_s3: FaultyProxy
) -> None:
    bucket = s3_server.make_bucket()
    direct = s3_server.store(bucket)
    options = s3_server.environment(endpoint=faulty_s3.url) | {"AWS_ALLOW_HTTP": "true"}
    store = obstore.store.S3Store(bucket, config=options, retry_config={"max_retries": 0})
    obstore.put(store, "one", b"0123456789")
    assert bytes(obstore.get(store, "one").bytes()) == b"0123456789"

    faulty_s3.spoil(Fault(status=503))
    with pytest.raises(obstore.exceptions.GenericError, match="503"):
        obstore.get(store, "one")
    faulty_s3.spoil(Fault(status=403))
    with pytest.raises(obstore.exceptions.PermissionDeniedError):
        obstore.get(store, "one")
    faulty_s3.spoil(Fault(path="/one", cut_after=4))
    with pytest.raises(obstore.exceptions.GenericError):
        obstore.get(store, "one").bytes()
    faulty_s3.spoil(Fault(path="list-type", status=200, body=EMPTY_LISTING))
    assert obstore.list(store).collect() == []
    assert len(obstore.list(store).collect()) == 1
    faulty_s3.spoil(Fault(first=lambda: obstore.put(direct, "one", b"abc")))
    assert bytes(obstore.get(store, "one").bytes()) == b"abc"
    faulty_s3.spoil(Fault(methods=("PUT",), lose_answer=True))
    with pytest.raises(obstore.exceptions.GenericError):
        obstore.put(store, "two", b"2", mode="create")
    assert bytes(obstore.get(store, "two").bytes()) == b"2"


def test_the_server_refuses_those_who_may_not(s3_server: S3Server) -> None:
    bucket = s3_server.make_bucket()
    obstore.put(s3_server.store(bucket), "one", b"1")

    for user, read in (("reader", True), ("nobody", False)):
        options = s3_server.environment(user) | {"AWS_ALLOW_HTTP": "true"}
        store = obstore.store.S3Store(bucket, config=options, retry_config={"max_retries": 0})
        with pytest.raises(obstore.exceptions.PermissionDeniedError):
            obstore.put(store, "two", b"2")
        if read:
            assert bytes(obstore.get(store, "one").bytes()) == b"1"
        else:
            with pytest.raises(obstore.exceptions.PermissionDeniedError):
                obstore.get(store, "one")
