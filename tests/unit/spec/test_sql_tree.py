"""What is known of DuckDB's functions."""

import multiprocessing
import os

from penstock.spec.sql_tree import _parser, judge_functions, serialize

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


def test_a_process_opens_one_duckdb_for_parsing_and_a_fork_opens_its_own() -> None:
    opened = _parser(os.getpid())
    serialize("select 1")
    assert _parser(os.getpid()) is opened

    child = multiprocessing.get_context("fork").Process(target=_parse_in_fork)
    child.start()
    child.join(60)

    assert child.exitcode == 0


def _parse_in_fork() -> None:
    opened_before = _parser.cache_info().currsize
    assert not serialize("select a + 1 from x")["error"]
    assert _parser.cache_info().currsize == opened_before + 1
