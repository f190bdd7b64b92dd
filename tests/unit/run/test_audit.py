"""The last gate: counts must add up, and the interval as a whole is judged."""

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from penstock.errors import ReconciliationFailed
from penstock.run.audit import audit_interval, merge_quantiles
from penstock.run_types import ModelPin, Partition, Receipt, ScoringRun, Validation
from penstock.spec.yaml_file import parse_pipeline
from tests.shop import SPEC

LIMITED = SPEC + "quarantine_limit: 0.1\n"


def run(text: str = LIMITED) -> ScoringRun:
    return ScoringRun("r" * 32, parse_pipeline(text.encode(), "x"), None, ModelPin("m", "1", "d"), "t")


def receipt(extracted: int = 100, scored: int = 100, quarantined: int = 0, excluded: int = 0, **more: Any) -> Receipt:
    facts: dict[str, Any] = {
        "refused_at_source": quarantined,
        "validations": (),
        "halts": (),
        "seconds": {},
        "score_quantiles": tuple(i / 100 for i in range(101)),
        "audit": {"scores": pa.table({"score": [0.5] * max(scored, 1)})},
        "columns": {"payments": ("payment_id",), "scores": ("score",)},
    }
    return Receipt(Partition(0, 1, None, None, extracted), extracted, scored, quarantined, excluded, **(facts | more))


def test_a_run_that_adds_up_passes() -> None:
    result = audit_interval(run(), [receipt(), receipt(scored=90, excluded=10)], 190, {})
    assert result.halts == ()
    assert (result.totals.extracted, result.totals.scored, result.totals.excluded) == (200, 190, 10)


def test_rows_that_were_counted_at_the_moment_of_reading_and_not_read_are_an_error() -> None:
    partition = Partition(0, 1, None, None, 100, {"shop": "00000003-1"})
    with pytest.raises(ReconciliationFailed, match="120 rows were counted, but 100 extracted in the same snapshot"):
        audit_interval(run(), [replace(receipt(), partition=partition)], 100, {}, planned=120)


def test_rows_that_came_or_went_before_they_were_read_are_noted() -> None:
    result = audit_interval(run(), [receipt()], 100, {}, planned=120)

    assert result.halts == ()
    assert [v.detail for v in result.validations if v.expectation == "rows as counted"] == [
        "120 rows were counted and 100 read: the source changed while it was read"
    ]


@pytest.mark.parametrize(("counts", "rows", "difference"), [((100, 99), 99, "= 99"), ((100, 100), 99, "has 99 rows")])
def test_a_row_that_is_unaccounted_for_is_an_error(counts: tuple[int, int], rows: int, difference: str) -> None:
    with pytest.raises(ReconciliationFailed, match=difference):
        audit_interval(run(), [receipt(*counts)], rows, {})


@pytest.mark.parametrize(("refused", "halts"), [(10, 0), (11, 1)])
def test_the_quarantine_limit_halts_above_it_not_at_it(refused: int, halts: int) -> None:
    result = audit_interval(run(), [receipt(scored=100 - refused, quarantined=refused)], 100 - refused, {})
    assert len(result.halts) == halts


def test_an_empty_interval_halts_and_says_what_to_write() -> None:
    result = audit_interval(run(), [], 0, {})
    assert any("empty: publish" in halt for halt in result.halts)


def test_a_halted_partition_halts_the_run_even_where_counts_differ() -> None:
    result = audit_interval(run(), [receipt(scored=0, halts=("amount is bad",))], 0, {})
    assert result.halts == ("amount is bad",)


def test_too_many_unreadable_lines_halt() -> None:
    text = LIMITED.replace(
        "expectations:", "  visits: {kind: log, path: x, format: combined, max_malformed: 0.01}\nexpectations:"
    )
    assert audit_interval(run(text), [receipt()], 100, {"visits": (1, 100)}).halts == ()
    [halt] = audit_interval(run(text), [receipt()], 100, {"visits": (2, 100)}).halts
    assert "2 of 100 lines" in halt


def test_a_share_is_judged_over_all_partitions_together() -> None:
    text = LIMITED.replace("column: amount, severity: warning}", "column: amount, mostly: 0.9}", 1)
    label = run(text).pipeline.expectations["payments"][0].label

    def part(bad: int) -> Receipt:
        return receipt(validations=(Validation("payments", label, "critical", 100, bad, "noted", "", 0),))

    assert audit_interval(run(text), [part(18), part(2)], 200, {}).halts == ()
    assert len(audit_interval(run(text), [part(19), part(2)], 200, {}).halts) == 1


def test_quantiles_of_partitions_merge_by_their_rows() -> None:
    low, high = receipt(scored=300), receipt(scored=100, score_quantiles=tuple(10 + i / 100 for i in range(101)))
    merged = merge_quantiles([low, high])
    assert (merged[0], merged[-1]) == (0.0, 11.0)
    assert merged[70] < 1.0 < merged[80]
    assert merge_quantiles([]) == ()
