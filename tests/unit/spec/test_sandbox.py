"""The pipeline of a sandbox: its name, its table and its variant."""

import pickle

import pytest

from penstock.errors import SandboxRefused, SpecError
from penstock.spec.sandbox import as_sandbox, find_production
from penstock.spec.yaml_file import parse_pipeline
from tests.promotions import PROMOTING
from tests.shop import SPEC

PIPELINE = parse_pipeline(SPEC.encode(), "x")


def named(table: str, beside: str = "") -> str:
    return SPEC.replace("table: card_risk_scores", f"table: {table}") + beside


def test_a_sandbox_has_a_table_and_a_variant_of_its_own() -> None:
    tried = as_sandbox(PIPELINE, "lower2")

    assert tried.name == PIPELINE.name
    assert tried.destination.table == "card_risk_scores__sandbox_lower2"
    assert (tried.destination.variant, PIPELINE.destination.variant) == ("sandbox:lower2", "live")
    assert (tried.is_sandbox, PIPELINE.is_sandbox) == (True, False)
    assert (tried.label, PIPELINE.label) == ("card-risk sandbox:lower2", "card-risk")
    assert find_production(tried).destination == PIPELINE.destination


def test_a_sandbox_stays_one_when_it_travels_to_a_worker_or_gets_other_values() -> None:
    tried = as_sandbox(PIPELINE, "lower")

    assert pickle.loads(pickle.dumps(tried)).destination.variant == "sandbox:lower"
    assert tried.model_copy(update={"reasons": None}).destination.variant == "sandbox:lower"


def test_a_spec_with_a_promotion_can_be_tried_in_a_sandbox() -> None:
    tried = as_sandbox(parse_pipeline(PROMOTING.encode(), "x"), "lower")

    assert (tried.promotion, tried.challengers, tried.drift) == (None, (), None)
    assert tried.labels is not None


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("", ""),
        ("Lower", "`lower`"),
        ("new-limit", "`newlimit`"),
        ("a_latest", "`alatest`"),
        ("2nd", "`nd`"),
        ("a" * 21, f"`{'a' * 20}`"),
        ("größe", "`grsse`"),
        ("x; drop table y", "`xdroptabley`"),
    ],
)
def test_other_names_are_refused_with_a_better_one(name: str, better: str) -> None:
    with pytest.raises(SandboxRefused) as refused:
        as_sandbox(PIPELINE, name)

    assert "is no name of a sandbox" in str(refused.value)
    assert better in str(refused.value)


@pytest.mark.parametrize(
    ("length", "name", "remedy"),
    [(34, "a" * 11, "at most 10 characters"), (44, "a", "Shorten `destination.table`"), (54, "a", "Shorten")],
)
def test_a_table_whose_name_databases_would_cut_is_refused(length: int, name: str, remedy: str) -> None:
    pipeline = parse_pipeline(named("t" * length).encode(), "x")

    with pytest.raises(SandboxRefused, match="makes the name of its table too long") as refused:
        as_sandbox(pipeline, name)

    assert remedy in str(refused.value)


def test_a_sandbox_cannot_be_tried_in_a_sandbox() -> None:
    with pytest.raises(SandboxRefused, match="is a sandbox already"):
        as_sandbox(as_sandbox(PIPELINE, "lower"), "upper")


def test_a_spec_cannot_write_into_the_table_of_a_sandbox() -> None:
    with pytest.raises(SpecError, match="`__sandbox_` stands in the tables of sandboxes"):
        parse_pipeline(named("card_risk_scores__sandbox_lower").encode(), "x")
