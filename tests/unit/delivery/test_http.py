"""Requests of deliveries: their bodies, their signatures, and the addresses that they may go to."""

import hashlib
import hmac
import json
import socket
import ssl
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from penstock.delivery import http
from penstock.delivery.http import HttpTarget, is_public, sign, write_body
from penstock.errors import AddressRefused
from penstock.interval import DataInterval
from penstock.ledger.outbox import Batch, Change, Delivery, Outbox, OutboxRow
from tests.receivers import receiving

OUTBOX = Outbox("card-risk", "main.card_risk_scores", "crm")
DAY = DataInterval(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))
BATCH = Batch(Delivery("d1", Change("key", DAY, "run1"), 7, "", "open"), 1, 3, "z", "planned", 0)
ROWS = [OutboxRow('{"id":1}', '{"score":0.5}'), OutboxRow('{"id":"ü"}', None)]


def test_a_body_says_what_to_put_and_what_to_remove() -> None:
    body = json.loads(write_body(OUTBOX, BATCH, ROWS))
    assert body == {
        "pipeline": "card-risk",
        "target": "crm",
        "run": "run1",
        "interval": {"start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z"},
        "delivery": "d1",
        "sequence": 7,
        "batch": 1,
        "batches": 3,
        "rows": [{"op": "upsert", "key": {"id": 1}, "values": {"score": 0.5}}, {"op": "delete", "key": {"id": "ü"}}],
    }


def test_a_request_is_signed_with_its_time_and_has_the_token() -> None:
    with receiving() as receiver:
        target = HttpTarget("crm", receiver.url, 2, True, secret="a secret of the two", token="let me in")
        reply = target.send(OUTBOX, BATCH, ROWS)
        target.close()
    assert (reply.accepted, reply.text) == (True, "200 OK")
    [(headers, body)] = receiver.requests
    assert body == write_body(OUTBOX, BATCH, ROWS)
    assert headers["Idempotency-Key"] == "d1-1"
    assert headers["Authorization"] == "Bearer let me in"
    seconds = headers["Penstock-Signature"].split(",")[0].removeprefix("t=")
    expected = hmac.new(b"a secret of the two", f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    assert (
        headers["Penstock-Signature"] == f"t={seconds},v1={expected}" == sign("a secret of the two", body, int(seconds))
    )


@pytest.mark.parametrize(
    ("answer", "text", "again", "wait"),
    [
        ((503, {"Retry-After": "7"}), "503 Service Unavailable", True, 7.0),
        ((429, {"Retry-After": "soon"}), "429 Too Many Requests", True, None),
        ((409, {}), "409 Conflict", False, None),
        ((302, {"Location": "http://127.0.0.1:1/"}), "302 Found; redirects are not followed", False, None),
        ((0, {}), "the connection broke", True, None),
        (1.0, "no answer in time", True, None),
    ],
)
def test_a_reply_says_whether_the_batch_may_be_sent_again(answer: Any, text: str, again: bool, wait: Any) -> None:
    with receiving() as receiver:
        receiver.answer = lambda _: answer
        target = HttpTarget("crm", receiver.url, 0.3, True)
        reply = target.send(OUTBOX, BATCH, ROWS)
        target.close()
    assert (reply.accepted, reply.text, reply.again, reply.wait) == (False, text, again, wait)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "192.168.0.9", "172.16.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
     "::1", "fe80::1%eth0", "fd00::1", "::ffff:10.0.0.1", "2002:7f00:1::",
     "64:ff9b::7f00:1", "::127.0.0.1", "::ffff:0:127.0.0.1", "fec0::1", "240.0.0.1"],
)  # fmt: skip
def test_addresses_inside_are_not_public(address: str) -> None:
    assert not is_public(address)


def test_addresses_outside_are_public() -> None:
    assert is_public("93.184.215.14")
    assert is_public("64:ff9b::8.8.8.8")
    assert is_public("::ffff:8.8.8.8")
    assert is_public("2606:2800:21f:cb07:6820:80da:af6b:8b2c")


def test_rows_go_to_no_private_address_unless_the_spec_says_so() -> None:
    with receiving() as receiver:
        port = receiver.url.split(":")[2].split("/")[0]
        target = HttpTarget("crm", f"https://localhost:{port}/", 1)
        with pytest.raises(AddressRefused, match="is not a public one"):
            target.send(OUTBOX, BATCH, ROWS)
        target.close()
        with pytest.raises(AddressRefused, match="others could read the rows"):
            HttpTarget("crm", receiver.url, 1)
        with pytest.raises(AddressRefused, match="no address in ASCII that begins with"):
            HttpTarget("crm", "ftp://example.com/", 1)
    assert receiver.requests == []


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://bücher.example/", "no address in ASCII"),
        ("https://h:abc/", "no address in ASCII"),
        ("https://[::1/", "no address in ASCII"),
        ("https://a..b/", "no address in ASCII"),
        ("https://h/a b", "no address in ASCII"),
        ("https://me:word@h/", "a user, a password or a fragment"),
        ("https://h/#here", "a user, a password or a fragment"),
    ],
)
def test_an_address_that_cannot_be_sent_to_is_refused_without_naming_it(url: str, why: str) -> None:
    with pytest.raises(AddressRefused, match=why) as refused:
        HttpTarget("crm", url, 1)
    assert url not in str(refused.value)


def _send(url: str, seconds: float = 0.3, token: str | None = None) -> Any:
    target = HttpTarget("crm", url, seconds, True, token=token)
    reply = target.send(OUTBOX, BATCH, ROWS)
    target.close()
    return reply


def test_a_reply_says_why_there_was_no_connection() -> None:
    with receiving() as receiver:
        url = receiver.url
        assert _send(url.replace("http://", "https://")).text == "no TLS connection"
        assert _send("https://nowhere.invalid/").text == "its host is not known"
        refused = _send(url, token="two\nlines")
        assert (refused.text, refused.again) == (
            "its address or token has a character that a request cannot have",
            False,
        )
    assert receiver.requests == []
    assert _send(url).text == "no connection"


def test_a_receiver_that_answers_byte_by_byte_is_left_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "CONNECT_SECONDS", 0.2)

    def drip(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, suppress(OSError):
            for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 60:
                connection.send(bytes([byte]))
                time.sleep(0.05)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,), daemon=True)
        thread.start()
        begun = time.monotonic()
        reply = _send(f"http://127.0.0.1:{server.getsockname()[1]}/", 0.2)
        assert (reply.text, reply.again) == ("no answer in time", True)
        assert time.monotonic() - begun < 2
        thread.join()


def _certify(folder: Path) -> Path:
    """Write a certificate of this machine, signed by itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "here")])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, datetime(2020, 1, 1), datetime(2120, 1, 1))  # noqa: DTZ001
    signed = made.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False)
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = folder / "certificate.pem"
    file.write_bytes(private + signed.sign(key, hashes.SHA256()).public_bytes(pem))
    return file


def test_rows_go_to_a_receiver_whose_certificate_is_trusted_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = _certify(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with receiving(tls) as receiver:
        assert _send(receiver.url).text.startswith("its certificate is not valid: self")
        assert receiver.requests == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert _send(receiver.url).accepted
    assert len(receiver.requests) == 1
