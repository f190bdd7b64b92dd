"""Seals, and the roots of partitions and runs."""

import hashlib
import hmac
from dataclasses import replace

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from penstock.privacy.secret_keys import SecretKey
from penstock.seals.sealer import PartitionSeal, Sealer, read_seal

KEY = SecretKey(b"the key of the seals")
SEALER = Sealer(KEY, "run", "card-risk/1@digest", "interval")
ROWS = pa.table({"key": [1, 2], "score": [0.5, 0.25]})
FEATURES = pa.table({"key": [1, 2], "amount": [10, 20]})
DIGESTS = st.lists(st.text("0123456789abcdef", min_size=64, max_size=64), max_size=5)


def test_a_seal_is_the_documented_hmac() -> None:
    text = SEALER.seal_rows(3, ROWS, FEATURES)[0].as_py()
    assert text is not None

    def digest(about: str, message: bytes) -> str:
        return hmac.new(
            KEY.secret, b"penstock 1\0" + about.encode() + b"\0run\0\0" + message, hashlib.sha256
        ).hexdigest()

    features = digest("features", b"6:amount=2:103:key=1:1")[:32]
    row = digest("row\0card-risk/1@digest\0" + "3", features.encode() + b"3:key=1:15:score=3:0.5")
    assert text == f"{KEY.id}.{features}.{row}"
    seal = read_seal(text)
    assert seal is not None
    assert (seal.key_id, seal.features, seal.digest) == (KEY.id, features, row)


def test_all_that_a_seal_covers_changes_it() -> None:
    others = [
        SEALER.seal_rows(4, ROWS, FEATURES),
        replace(SEALER, run_id="other").seal_rows(3, ROWS, FEATURES),
        replace(SEALER, models="card-risk/2@digest").seal_rows(3, ROWS, FEATURES),
        replace(SEALER, key=SecretKey(b"another key of seals")).seal_rows(3, ROWS, FEATURES),
        SEALER.seal_rows(3, ROWS.set_column(1, "score", pa.array([0.6, 0.25])), FEATURES),
        SEALER.seal_rows(3, ROWS, FEATURES.set_column(1, "amount", pa.array([11, 20]))),
    ]
    seals = {SEALER.seal_rows(3, ROWS, FEATURES)[0].as_py(), *(other[0].as_py() for other in others)}

    assert len(seals) == 7


def test_text_that_is_no_seal_is_none() -> None:
    assert [read_seal(text) for text in (None, "", "a.b.c", "x" * 106, 5)] == [None] * 5


@given(DIGESTS, st.randoms())
def test_a_root_does_not_depend_on_the_order_of_rows(digests: list[str], rng: object) -> None:
    shuffled = list(digests)
    rng.shuffle(shuffled)  # type: ignore[attr-defined] # hypothesis's `Random`

    assert SEALER.seal_partition(0, digests, digests) == SEALER.seal_partition(0, shuffled, shuffled)


@given(DIGESTS, DIGESTS)
def test_two_sets_of_rows_have_the_same_root_only_if_they_are_equal(one: list[str], other: list[str]) -> None:
    """A pair of equal rows does not vanish, as it would in an exclusive or."""
    same = SEALER.seal_partition(0, one, []).root == SEALER.seal_partition(0, other, []).root

    assert same == (sorted(one) == sorted(other))
    assert SEALER.seal_partition(0, one, []).root != SEALER.seal_partition(0, [*one, "0" * 64, "0" * 64], []).root


def test_the_root_of_a_run_covers_its_partitions_in_any_order() -> None:
    parts = [PartitionSeal(n, KEY.id, 2, str(n) * 64, "") for n in range(3)]

    place = ("main.scores", "Scores")

    assert SEALER.seal_run(parts, place) == SEALER.seal_run(parts[::-1], place)
    changed = [parts[:2], [*parts[:2], replace(parts[2], rows=3)], [*parts[:2], replace(parts[2], root="x" * 64)]]
    roots = {SEALER.seal_run(each, place) for each in (parts, *changed)}
    roots |= {SEALER.seal_run(parts, other) for other in (("main.other", "Scores"), ("main.scores", "other"), None)}
    assert len(roots | {replace(SEALER, interval="other").seal_run(parts, place)}) == 8
