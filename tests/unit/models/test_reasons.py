"""Reasons of refused rows: data until they are stored, masked by their feature, and stored in the form of 0.1."""

from pathlib import Path

import pyarrow as pa
import pytest

from penstock.database.unstorable import unstorable_rows
from penstock.models.chain import score_step
from penstock.models.columns import read_column
from penstock.models.manifest import Feature
from penstock.models.registry import Registry
from penstock.models.scoring import add_unstorable
from penstock.privacy.masking import NO_MASKING, MaskingPolicy
from penstock.run.partition_options import PartitionOptions
from penstock.run.validate import Quarantiner
from penstock.run_types import FailedExpectation, Features, Misfit, NullKey, Refusal
from penstock.spec.pipeline import Pipeline
from penstock.spec.stages import MODEL, SCORES
from penstock.spec.yaml_file import parse_pipeline
from tests.shop import SPEC, payments
from tests.steps import STEPS, train_steps

MASKING = MaskingPolicy({"country": "hash"}, b"0123456789abcdef")
VALUES = (
    "Ruritania",
    "Ruri'tania",
    "Ruri '`tania`' '",
    "` 'Ruritania",
    "'Ruritania'",
    " 'amount' '",
    "`amount`: 'Ruritania",
    "step deep: `amount`: unseen category 'Ruritania'",
    "(private) Ruritania",
    "Ruri\ntania",
)
COUNTRY = Feature(name="country", dtype="category", categories=("DE", "FR"))


def read(spec: str = SPEC) -> Pipeline:
    return parse_pipeline(spec.encode(), "x.yaml")


def refuse(value: str, masking: MaskingPolicy, *, feature: Feature = COUNTRY) -> Refusal:
    """Refuse the row of a category that the model has never seen."""
    table = pa.table({"payment_id": [1], feature.name: [value]})
    misfits = {row: (misfit,) for row, misfit in read_column(feature, table[feature.name]).misfits.items()}
    _, [refusal] = Quarantiner(read(), masking, {}).refuse(MODEL, table, misfits)
    return refusal


@pytest.mark.parametrize("value", VALUES)
def test_the_value_of_a_private_feature_reaches_no_reason(value: str) -> None:
    refusal = refuse(value, MASKING)

    assert [reason.text for reason in refusal.reasons] == ["`country`: unseen category (private)"]
    assert value not in repr(refusal)


@pytest.mark.parametrize("value", VALUES)
def test_the_value_of_another_feature_is_shown_as_it_is(value: str) -> None:
    refusal = refuse(value, MaskingPolicy({"email": "hash"}, MASKING.secret))

    assert [reason.text for reason in refusal.reasons] == [f"`country`: unseen category '{value}'"]


def test_a_feature_whose_name_holds_quotes_is_masked_by_its_whole_name() -> None:
    odd = COUNTRY.model_copy(update={"name": "a` 'b"})

    hidden = refuse("Ruritania", MaskingPolicy({"a` 'b": "drop"}, MASKING.secret), feature=odd)
    shown = refuse("Ruritania", MaskingPolicy({"a": "drop"}, MASKING.secret), feature=odd)

    assert [reason.text for reason in hidden.reasons] == ["`a` 'b`: unseen category (private)"]
    assert [reason.text for reason in shown.reasons] == ["`a` 'b`: unseen category 'Ruritania'"]


def test_a_step_masks_a_value_by_the_column_that_its_input_is_read_from(tmp_path: Path) -> None:
    registry: Registry = train_steps(tmp_path)
    inputs = "inputs: {opinion: screen_score, country: land}"
    spec = read(STEPS.replace("inputs: {opinion: screen_score}", inputs).replace("items > 1", "items > 0"))
    step = spec.steps[1]
    model = registry.load(registry.resolve(step.model))
    rows = payments(days=1, a_day=2)
    rows = rows.append_column("land", pa.array(["Ruri '`tania", "DE"]))
    rows = rows.append_column("screen_score", pa.array([0.9, 0.9]))
    private = MaskingPolicy({"land": "hash"}, MASKING.secret)

    found = score_step(spec, Features(rows, 2, 0, (), ()), step, model, PartitionOptions(private, 60))

    assert [[reason.text for reason in refusal.reasons] for refusal in found.refusals] == [
        ["step deep: `country`: unseen category (private)"]
    ]
    assert "tania" not in repr([refusal.reasons for refusal in found.refusals])


def test_every_reason_is_stored_in_the_form_of_the_version_before() -> None:
    reasons = (
        Misfit("amount", "not finite"),
        Misfit("country", "unseen category", "XX"),
        Misfit("country", "unseen category", "XX", step="deep"),
        Misfit("country", "unseen category", "(private)", masked=True),
        NullKey(),
        FailedExpectation("amount is at least 0"),
    )

    assert [reason.text for reason in reasons] == [
        "`amount`: not finite",
        "`country`: unseen category 'XX'",
        "step deep: `country`: unseen category 'XX'",
        "`country`: unseen category (private)",
        "the key is NULL",
        "amount is at least 0",
    ]


def test_a_key_that_not_every_database_can_store_adds_to_the_reasons_of_its_row() -> None:
    table = pa.table({"payment_id": ["1\0", "2"]})

    found = unstorable_rows(table, ["payment_id"])
    both = add_unstorable(read(), table, {0: (Misfit("amount", "not finite"),)})

    assert found == {0: (Misfit("payment_id", "text with a NUL, which not every database can hold"),)}
    assert both == {0: (Misfit("amount", "not finite"), *found[0])}


@pytest.mark.parametrize("waived", ["score is below 1", "score is above 0"])
def test_a_release_waives_the_reason_that_has_its_stored_text(waived: str) -> None:
    table = pa.table({"payment_id": [1], "score": [1.5]})
    failed = {0: (FailedExpectation("score is below 1"),)}
    _, [refusal] = Quarantiner(read(), NO_MASKING, {}).refuse(SCORES, table, failed)

    stays, again = Quarantiner(read(), NO_MASKING, {refusal.digest: frozenset({waived})}).refuse(SCORES, table, failed)

    assert (stays.num_rows, len(again)) == ((1, 0) if waived == "score is below 1" else (0, 1))
