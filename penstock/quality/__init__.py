"""Judge batches with Great Expectations. The caller decides how to react to what they find.

`judge` runs the expectations; the spec has checked their arguments. `frames` converts Arrow to frames that the pandas
engine judges correctly. Only `engine` imports Great Expectations, on first use, since that takes 6 to 10 s.
"""

from penstock.quality.engine import load_engine
from penstock.quality.judge import columns_needed, judge_rows, judge_shares, judge_whole

__all__ = ["columns_needed", "judge_rows", "judge_shares", "judge_whole", "load_engine"]
