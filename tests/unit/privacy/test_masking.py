"""What hides private values, and which specs may have some."""

import pytest

from penstock.database.driver_errors import _one_line
from penstock.errors import SpecError
from penstock.privacy.masking import NO_MASKING, MaskingPolicy
from penstock.spec.yaml_file import parse_pipeline
from tests.shop import SPEC

VEIL = MaskingPolicy({"email": "hash", "phone": "drop"}, b"0123456789abcdef")


def with_private(private: str, spec: str = SPEC) -> str:
    return spec.replace("    updated_column: updated_at\n", f"    updated_column: updated_at\n    private: {private}\n")


def test_a_masked_row_keeps_its_other_values_and_equal_ones_stay_equal() -> None:
    row = VEIL.mask({"id": 1, "EMail": "ann@x", "phone": "123", "email": None})

    assert row == {"id": 1, "EMail": VEIL.hash("ann@x"), "email": None}
    assert VEIL.hash(42) == VEIL.hash("42") != VEIL.hash("43")
    assert NO_MASKING.mask({"email": "ann@x"}) == {"email": "ann@x"}


def test_another_secret_gives_another_hash_and_the_secret_is_not_shown() -> None:
    assert MaskingPolicy(VEIL.columns, b"another secret!!").hash("ann@x") != VEIL.hash("ann@x")
    assert "0123456789abcdef" not in repr(VEIL)


def test_one_name_is_private_in_every_stage_and_dropped_where_one_source_says_so() -> None:
    text = with_private("{email: hash, phone: hash}") + "private: {Phone: drop, contact: hash}\n"

    pipeline = parse_pipeline(text.encode(), "x.yaml")

    assert pipeline.private_columns == {"email": "hash", "phone": "drop", "contact": "hash"}


@pytest.mark.parametrize(
    ("private", "culprit"),
    [
        ("{country: hash}", "`keep` carries `country` along, which is private"),
        ("{payment_id: drop}", "the key column `payment_id` cannot be dropped"),
        ("{email: mask}", "'hash' or 'drop'"),
    ],
)
def test_a_private_column_that_would_come_out_is_refused(private: str, culprit: str) -> None:
    with pytest.raises(SpecError, match=culprit):
        parse_pipeline(with_private(private).encode(), "x.yaml")


def test_a_spec_without_private_columns_keeps_the_fingerprint_it_had_before_there_was_such_a_key() -> None:
    body = parse_pipeline(SPEC.encode(), "x.yaml").model_dump(mode="json", exclude_defaults=True, by_alias=True)

    assert "private" not in body
    assert "private" not in body["sources"]["payments"]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("DETAIL:  Key (run_id, email)=(abc, ann@x) already exists.", "DETAIL: Key (run_id, email)=(…) already exists"),
        ("DETAIL:  Failing row contains (abc, ann@x, 3).", "DETAIL: Failing row contains (…)"),
        ('invalid input syntax for type integer: "ann@x"', "invalid input syntax for type integer: (…)"),
        ('Duplicate key "run_id: a, email: ann@x" violates', "Duplicate key (…) violates"),
        ("no such table: payments", "no such table: payments"),
        ('Casting value "123456.78" to type DECIMAL(6,4) failed', "Casting value (…) to type DECIMAL(6,4) failed"),
        (
            "Type INT64 with value 70000 can't be cast because the value is out of range",
            "Type INT64 with value (…) can't be cast because the value is out of range",
        ),
        ("Could not convert string 'Ann to Bob' to INT32 when", "Could not convert string (…) to INT32 when"),
        ("Could not cast value 1152921504606846976 to DECIMAL(6,4)", "Could not cast value (…) to DECIMAL(6,4)"),
        ("Failed to cast decimal value 12.5 to type INT64 when", "Failed to cast decimal value (…) to type INT64 when"),
        (
            'invalid date field format: "Ann", expected format is (YYYY-MM-DD)',
            "invalid date field format: (…), expected format is (YYYY-MM-DD)",
        ),
        ('value "70000" is out of range for type smallint', "value (…) is out of range for type smallint"),
    ],
)
def test_an_error_of_a_database_does_not_quote_rows(said: str, told: str) -> None:
    import sqlalchemy as sa

    assert _one_line(said, sa.make_url("sqlite://")) == told
