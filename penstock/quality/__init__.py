"""Judge batches with Great Expectations. The caller decides how to react to what they find.

`judge` runs the expectations; the spec has checked their arguments. `predicates` compiles row expectations to SQL that
`duckdb_judge` runs, and `aggregates` judges figures of number columns. `library_judge` gives the others to Great
Expectations; `frames` converts Arrow to frames that its pandas engine judges correctly. Only `engine` imports it, on
first use, since that takes 1.3 CPU s or more.
"""

from penstock.quality.engine import load_engine
from penstock.quality.judge import columns_needed, judge_rows, judge_shares, judge_whole
from penstock.quality.predicates import needs_great_expectations

__all__ = [
    "columns_needed",
    "judge_rows",
    "judge_shares",
    "judge_whole",
    "load_engine",
    "needs_great_expectations",
]
