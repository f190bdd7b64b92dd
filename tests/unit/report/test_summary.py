"""The summary of a flow run: a line an interval, and what was cut."""

from penstock.report.summary import ROWS, IntervalEnd, run_summary


def end(number: int, outcome: str = "published", reason: str = "") -> IntervalEnd:
    return IntervalEnd(f"day {number}", outcome, reason, 240, 10, f"../../artifacts/artifact/{number}")


def test_each_interval_has_a_line_with_its_counts_its_reason_and_its_card() -> None:
    halted = IntervalEnd("day 2", "halted", "150 of 250 rows | refused", None, None, "../../runs/flow-run/2")

    assert run_summary("card-risk", [end(1), halted], ["the pipeline starts later"]) == (
        "# card-risk: 2 intervals, 1 published, 1 halted\n\n"
        "the pipeline starts later.\n\n"
        "| interval | outcome | scored | quarantined |\n"
        "| --- | --- | --: | --: |\n"
        "| [day 1](../../artifacts/artifact/1) | ✓ published | 240 | 10 |\n"
        "| [day 2](../../runs/flow-run/2) | ✗ **halted** | – | – |\n\n"
        "## Why\n\n"
        "- day 2: 150 of 250 rows \\| refused"
    )


def test_of_too_many_intervals_those_that_were_not_published_are_listed_and_the_cut_is_named() -> None:
    ends = [*(end(number) for number in range(ROWS)), end(ROWS, "halted", "why"), end(ROWS + 1, "failed", "why")]

    summary = run_summary("card-risk", ends)

    lines = [line for line in summary.split("\n") if line.startswith("| [day")]
    assert len(lines) == ROWS
    assert [line.split("]")[0] for line in lines[-3:]] == [f"| [day {n}" for n in (ROWS - 3, ROWS, ROWS + 1)]
    assert summary.endswith("2 other intervals not listed here. `penstock runs card-risk --limit 402` lists them all.")


def test_a_long_reason_is_shortened() -> None:
    assert "x" * 300 + " …" in run_summary("card-risk", [end(1, "failed", "x" * 2000)])
