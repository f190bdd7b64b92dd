"""Judge batches with Great Expectations: finding only, the reaction is the caller's.

`check` reads the expectations of a spec without data, `judge` runs them, `frames` turns Arrow into what the
pandas engine judges rightly, `engine` alone imports Great Expectations (6 to 10 s, so only on first use).
"""

from penstock.quality.check import check_expectations
from penstock.quality.engine import load_engine
from penstock.quality.judge import columns_needed, judge_rows, judge_shares, judge_whole

__all__ = ["check_expectations", "columns_needed", "judge_rows", "judge_shares", "judge_whole", "load_engine"]
