"""What all candidates of W1 do: the same rows, the same model, the same expectations."""

from datetime import UTC, datetime, timedelta

FEATURES = tuple(f"f{number:02d}" for number in range(20))
TABLE = "orders"
"""`order_id` (primary key), `created_at` (all on one day), 20 doubles; no NULLs, nothing to refuse."""
START = datetime(2026, 1, 1, tzinfo=UTC)
END = START + timedelta(days=1)
SCORES = "scores"
MODEL = "orders"
TREES, DEPTH = 100, 6

ROW_EXPECTATIONS = (
    ("expect_column_values_to_not_be_null", {"column": "f00"}),
    ("expect_column_values_to_not_be_null", {"column": "f01"}),
    ("expect_column_values_to_be_between", {"column": "f02", "min_value": -10, "max_value": 10}),
    ("expect_column_values_to_be_between", {"column": "f03", "min_value": -10, "max_value": 10}),
    ("expect_column_values_to_be_between", {"column": "f04", "min_value": -10, "max_value": 10}),
    ("expect_column_values_to_not_be_in_set", {"column": "f05", "value_set": [-999.0, 999.0]}),
)
WHOLE_EXPECTATIONS = (
    ("expect_column_mean_to_be_between", {"column": "f06", "min_value": -1, "max_value": 1}),
    ("expect_table_row_count_to_be_between", {"min_value": 1}),
)
EXPECTATIONS = ROW_EXPECTATIONS + WHOLE_EXPECTATIONS
