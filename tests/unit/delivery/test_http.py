"""Requests of deliveries: their bodies, their signatures, and the addresses that they may go to."""

import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from penstock.delivery.http import HttpTarget, is_public, sign, write_body
from penstock.errors import AddressRefused
from penstock.interval import DataInterval
from penstock.ledger.deliveries import Batch, Change, Delivery, Outbox, OutboxRow
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
        ((422, {}), "422 Unprocessable Entity", False, None),
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
     "::1", "fe80::1%eth0", "fd00::1", "::ffff:10.0.0.1", "2002:7f00:1::"],
)  # fmt: skip
def test_addresses_inside_are_not_public(address: str) -> None:
    assert not is_public(address)


def test_addresses_outside_are_public() -> None:
    assert is_public("93.184.215.14")
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
        with pytest.raises(AddressRefused, match="no address that begins with"):
            HttpTarget("crm", "ftp://example.com/", 1)
    assert receiver.requests == []
