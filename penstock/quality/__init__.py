"""Judge batches with Great Expectations. The caller decides how to react to what they find.

`check` reads the expectations of a spec without data, and `judge` runs them. `frames` converts Arrow to frames that the
pandas engine judges correctly. Only `engine` imports Great Expectations, on first use, since that takes 6 to 10 s.
"""

from penstock.quality.check import check_expectations
from penstock.quality.engine import load_engine
from penstock.quality.judge import columns_needed, judge_rows, judge_shares, judge_whole

__all__ = ["check_expectations", "columns_needed", "judge_rows", "judge_shares", "judge_whole", "load_engine"]
