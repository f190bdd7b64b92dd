"""What is known of DuckDB's functions, and parsing with its parser."""

import os
from concurrent.futures import ThreadPoolExecutor

from penstock.spec.sql_tree import judge_functions, serialize

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


def test_threads_and_forks_parse_with_connections_of_their_own() -> None:
    queries = [f"select {number} as x" for number in range(40)]
    trees = [serialize(query) for query in queries]

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(serialize, queries)) == trees
    child = os.fork()
    if child == 0:
        right = False
        try:
            right = serialize(queries[0]) == trees[0]
        finally:
            os._exit(0 if right else 1)
    assert os.waitpid(child, 0)[1] == 0
