"""What is known of DuckDB's functions."""

from penstock.spec.sql_tree import judge_functions

SCALAR = "scalar"


def test_a_form_that_depends_on_the_time_zone_does_not_make_a_function_unsteady() -> None:
    forms = [
        ("hour", SCALAR, "CONSISTENT", ""),
        ("hour", SCALAR, "CONSISTENT_WITHIN_QUERY", ""),  # of a timestamp with a zone, in DuckDB 2.0.1
        ("now", SCALAR, "CONSISTENT_WITHIN_QUERY", ""),
        ("random", SCALAR, "VOLATILE", ""),
        ("sum", "aggregate", "CONSISTENT", ""),
    ]

    known = judge_functions(forms)

    assert "hour" not in known
    assert (known["now"], known["random"], known["sum"]) == ("unsteady", "unsteady", "aggregate")
