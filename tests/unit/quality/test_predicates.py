"""Predicates in DuckDB judge rows exactly like Great Expectations: the same counts, positions and verdicts."""

import math
import re
import sys
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Context, Decimal
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from docs.generator.judges import EXAMPLES, KINDS_SHOWN, judged_by_duckdb
from penstock.quality.duckdb_judge import count_rows
from penstock.quality.library_judge import find
from penstock.quality.patterns import translate_regex
from penstock.quality.predicates import compile_predicate, compile_predicates
from penstock.spec.expectation import Expectation
from penstock.spec.expectation_types import ROW_TYPES

BE_NULL, NOT_NULL = "expect_column_values_to_be_null", "expect_column_values_to_not_be_null"
BETWEEN, LENGTHS = "expect_column_values_to_be_between", "expect_column_value_lengths_to_be_between"
IN_SET, NOT_IN_SET = "expect_column_values_to_be_in_set", "expect_column_values_to_not_be_in_set"
MATCH, MATCH_LIST = "expect_column_values_to_match_regex", "expect_column_values_to_match_regex_list"
PAIR_EQUAL, PAIR_GREATER = (
    "expect_column_pair_values_to_be_equal",
    "expect_column_pair_values_a_to_be_greater_than_b",
)
PAIR_IN_SET, SUM = "expect_column_pair_values_to_be_in_set", "expect_multicolumn_sum_to_equal"
UNIQUE_IN_RECORD = "expect_select_column_values_to_be_unique_within_record"
DUCKDB = duckdb.connect(":memory:", config={"threads": 1})
_BOTH = (None, True)

# --- values of each type -----------------------------------------------------------------------

_BIG = (0, 1, -1, 2**31, 2**53, 2**53 + 1, -(2**53) - 1, 2**60 + 1, 2**63 - 1, -(2**63))
_LETTERS = st.sampled_from(
    ["a", "B", "é", "É", "\u0301", "ß", "😀", "\0", "'", '"', "%", "\n", "\u2028", "٣", " ", "7"]
)
_TEXT = st.one_of(st.text(_LETTERS, max_size=4), st.sampled_from(["", "a", "NULL", "nan", "1", "1.0", "true"]))
_FLOATS = st.one_of(
    st.floats(), st.sampled_from([0.0, -0.0, 0.1, 0.3, 0.1 + 0.2, math.inf, -math.inf, math.nan, 5e-324, 2.0**53])
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = datetime(1, 1, 3), datetime(9999, 12, 29)  # noqa: DTZ001 # Hypothesis adds the zone
_TIMES = st.one_of(
    st.sampled_from([datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 6, 0, 0, 1, tzinfo=UTC), _EPOCH]),
    st.datetimes(_FIRST, _LAST, timezones=st.just(UTC)),
)
_DATES = st.one_of(st.sampled_from([date(2026, 1, 1), date(2026, 1, 2)]), st.dates())


def _integers(bits: int, *, signed: bool = True) -> st.SearchStrategy[int]:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    near = [v for v in (*_BIG, low, high) if low <= v <= high]
    return st.one_of(st.integers(-3, 3).filter(lambda v: low <= v), st.sampled_from(near), st.integers(low, high))


def _decimals(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    whole = st.one_of(st.integers(-100, 100), st.integers(-(10**precision) + 1, 10**precision - 1))
    return whole.filter(lambda v: abs(v) < 10**precision).map(lambda v: Decimal(v).scaleb(-scale, _CONTEXT))


_CONTEXT = Context(prec=60)
KINDS: Mapping[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "int8": (pa.int8(), _integers(8)),
    "int32": (pa.int32(), _integers(32)),
    "int64": (pa.int64(), _integers(64)),
    "uint64": (pa.uint64(), _integers(64, signed=False)),
    "float32": (pa.float32(), st.floats(width=32)),
    "float64": (pa.float64(), _FLOATS),
    "decimal of 4 digits": (pa.decimal128(4, 2), _decimals(4, 2)),
    "decimal of 15 digits": (pa.decimal128(15, 3), _decimals(15, 3)),
    "decimal of 20 digits": (pa.decimal128(20, 0), _decimals(20, 0)),
    "decimal of 38 digits": (pa.decimal128(38, 10), _decimals(38, 10)),
    "bool": (pa.bool_(), st.booleans()),
    "text": (pa.string(), _TEXT),
    "large text": (pa.large_string(), _TEXT),
    "dictionary": (pa.dictionary(pa.int32(), pa.string()), _TEXT),
    "date": (pa.date32(), _DATES),
    "time of UTC": (pa.timestamp("us", "UTC"), _TIMES),
    "time of a zone": (pa.timestamp("us", "Europe/Paris"), _TIMES),
    "time without zone": (pa.timestamp("us"), _TIMES.map(lambda t: t.replace(tzinfo=None))),
    "NULL": (pa.null(), st.none()),
}
_ANY_KIND = st.sampled_from(sorted(KINDS))


@st.composite
def columns(draw: st.DrawFn, kinds: st.SearchStrategy[str], names: str = "x") -> pa.Table:
    """Draw one table. Few values, so that columns equal each other and the arguments often."""
    rows = draw(st.integers(1, 8))
    arrays = {}
    for name in names:
        kind, values = KINDS[draw(kinds)]
        pool = draw(st.lists(st.one_of(st.none(), values), min_size=1, max_size=5))
        plain = kind.value_type if pa.types.is_dictionary(kind) else kind
        array = pa.array(draw(st.lists(st.sampled_from(pool), min_size=rows, max_size=rows)), plain)
        arrays[name] = array.dictionary_encode() if plain is not kind else array
    return pa.table(arrays)


def _some_values(table: pa.Table) -> st.SearchStrategy[Any]:
    """Draw an argument near the values of the table, or of another type."""
    near = [v for column in table.columns for v in column.to_pylist() if v is not None]
    near = [float(v) if isinstance(v, Decimal) else v for v in near]
    texts = [v.isoformat() for v in near if isinstance(v, date)]
    kept = [v for v in near if not isinstance(v, float) or math.isfinite(v)]
    near_numbers = [v + 1 for v in kept if isinstance(v, int) and not isinstance(v, bool)]
    others = st.one_of(
        st.integers(-3, 3),
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from([0.5, 0.1, 0.3, -0.0, 2**53 + 1, 2**70, "2026-01-01", "a", "", True, date(2026, 1, 1)]),
        _DATES,
        _TIMES,
    )
    return st.one_of(st.sampled_from([*kept, *texts, *near_numbers]), others) if kept else others


# --- the comparison ----------------------------------------------------------------------------


def expect(type_: str, **arguments: Any) -> Expectation:
    return Expectation(type=type_, severity="info", arguments=arguments)  # type: ignore[arg-type]  # pydantic checks both


def spell(type_: str, **arguments: Any) -> Expectation | None:
    """Write an expectation with the arguments that are not None. None if a spec refuses it."""
    try:
        return expect(type_, **{name: value for name, value in arguments.items() if value is not None})
    except ValueError:
        return None


def compare(table: pa.Table, *spelled: Expectation | None) -> list[bool]:
    """Judge a table by both. Return which expectations were compiled."""
    expectations = [each for each in spelled if each is not None]
    compiled = compile_predicates(expectations, table.schema)
    chosen = [each for each, predicate in zip(expectations, compiled, strict=True) if predicate is not None]
    if chosen:
        with np.errstate(invalid="ignore"):  # the library compares NaN with unsigned integers
            reference = find("rows", table, chosen, positions=True)
        counts = count_rows(table, [predicate for predicate in compiled if predicate is not None])
        for one, expected, found in zip(chosen, reference, counts, strict=True):
            assert (found.evaluated, found.unexpected) == (expected.evaluated, expected.unexpected), one.label
            assert list(found.positions) == list(expected.positions), one.label
            assert expected.success == (not found.unexpected), one.label
    return [predicate is not None for predicate in compiled]


_FLAGS = st.sampled_from([None, True, False])


@settings(max_examples=15)
@given(st.data())
@pytest.mark.parametrize("kind", KINDS)
def test_nulls(kind: str, data: st.DataObject) -> None:
    table = data.draw(columns(st.just(kind)))

    both = [spell(type_, column="x") for type_ in (BE_NULL, NOT_NULL)]

    assert compare(table, *both) == [True, True]


@settings(max_examples=15)
@given(st.data())
@pytest.mark.parametrize("kind", KINDS)
def test_between(kind: str, data: st.DataObject) -> None:
    table = data.draw(columns(st.just(kind)))
    bound = st.one_of(st.none(), _some_values(table))
    bounds = data.draw(st.lists(st.tuples(bound, bound, _FLAGS, _FLAGS), min_size=1, max_size=8))

    names = ("min_value", "max_value", "strict_min", "strict_max")
    compare(table, *(spell(BETWEEN, column="x", **dict(zip(names, each, strict=True))) for each in bounds))


@settings(max_examples=15)
@given(st.data())
@pytest.mark.parametrize("kind", KINDS)
def test_sets(kind: str, data: st.DataObject) -> None:
    table = data.draw(columns(st.just(kind)))
    sets = data.draw(st.lists(st.lists(_some_values(table), max_size=4), min_size=1, max_size=5))

    compare(table, *(spell(type_, column="x", value_set=each) for type_ in (IN_SET, NOT_IN_SET) for each in sets))


@given(st.data())
def test_lengths(data: st.DataObject) -> None:
    table = data.draw(columns(_ANY_KIND))
    bound = st.one_of(st.none(), st.integers(0, 5))
    bounds = data.draw(st.lists(st.tuples(bound, bound, _FLAGS, _FLAGS), min_size=1, max_size=5))

    names = ("min_value", "max_value", "strict_min", "strict_max")
    compare(
        table,
        *(spell(LENGTHS, column="x", **dict(zip(names, each, strict=True))) for each in bounds),
        *(spell("expect_column_value_lengths_to_equal", column="x", value=number) for number in range(3)),
    )


_PAIRS = (None, "both_values_are_missing", "either_value_is_missing", "neither")
_LISTS = (None, "all_values_are_missing", "any_value_is_missing", "never")


@settings(max_examples=150)
@given(st.data())
@pytest.mark.parametrize("same", [True, False])
def test_pairs(same: bool, data: st.DataObject) -> None:
    table = data.draw(columns(st.just(data.draw(_ANY_KIND)) if same else _ANY_KIND, "xy"))
    both = {"column_A": "x", "column_B": "y"}

    compare(
        table,
        *(spell(PAIR_EQUAL, **both, ignore_row_if=ignored) for ignored in _PAIRS),
        *(spell(PAIR_GREATER, **both, ignore_row_if=ignored, or_equal=each) for ignored in _PAIRS for each in _BOTH),
    )


@given(st.data())
def test_pairs_in_a_set(data: st.DataObject) -> None:
    table = data.draw(columns(st.sampled_from(["int8", "int64", "uint64", "text", "dictionary", "float64"]), "xy"))
    pair = st.tuples(_some_values(table.select(["x"])), _some_values(table.select(["y"]))).map(list)
    pairs = data.draw(st.lists(st.lists(pair, max_size=3), min_size=1, max_size=4))
    both = {"column_A": "x", "column_B": "y"}

    compare(
        table,
        *(
            spell(PAIR_IN_SET, **both, value_pairs_set=each, ignore_row_if=data.draw(st.sampled_from(_PAIRS)))
            for each in pairs
        ),
    )


@settings(max_examples=150)
@given(st.data())
def test_records(data: st.DataObject) -> None:
    names = data.draw(st.sampled_from(["xy", "xyz"]))
    some = st.sampled_from(["int8", "int32", "int64", "uint64", "text", "dictionary", "float64", "bool"])
    kinds = data.draw(st.sampled_from([some, st.just("int64"), st.just("text"), st.sampled_from(["int8", "int32"])]))
    table = data.draw(columns(kinds, names))
    totals = data.draw(st.lists(st.sampled_from([0, 1, -1, 2, 0.5, 2**31, -(2**31), 2**54]), min_size=1, max_size=3))

    for ignored in _LISTS:
        listed = {"column_list": list(names), "ignore_row_if": ignored}
        compare(table, spell(UNIQUE_IN_RECORD, **listed), *(spell(SUM, **listed, sum_total=each) for each in totals))


# --- patterns ----------------------------------------------------------------------------------

_ATOMS = st.sampled_from(
    [
        *("a", "é", "😀", ".", r"\d", r"\D", r"\s", r"\S", "[a-c]", "[^a]", "[^a-c7]", r"[\d\s]", r"[^\d]", r"\."),
        *(r"\n", r"\x00", "^", r"\A", r"\Z", "$", "(a|b|)", "(?:ab|é)", "(?P<n>a)", "'", "[']", r"\w", r"\b"),
        *("(?i:a)", "(?=a)", r"[\w]", "[]a]", "(a|b$)", "[\\-a]", r"\u00e9"),
    ]
)
_REPEATS = st.sampled_from(["", "", "", "*", "+", "?", "{2}", "{0,2}", "{1,}", "*?", "+?"])
_LETTERS_OF_SUBJECTS = [*"abcz7 é\n\r'.\0-]", "😀", "٣", "\x0b", "\u2028", "\x85"]
_SUBJECTS = st.lists(st.one_of(st.none(), st.text(st.sampled_from(_LETTERS_OF_SUBJECTS), max_size=6)), min_size=1)


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True


_PATTERNS = st.lists(st.tuples(_ATOMS, _REPEATS).map("".join), max_size=5).map("".join).filter(_is_pattern)


@settings(max_examples=150)
@given(st.lists(_PATTERNS, min_size=1, max_size=8), _SUBJECTS)
def test_patterns(patterns: list[str], subjects: list[str | None]) -> None:
    table = pa.table({"x": pa.array(subjects, pa.string())})

    compare(
        table,
        *(spell(MATCH, column="x", regex=pattern) for pattern in patterns),
        *(spell("expect_column_values_to_not_match_regex", column="x", regex=pattern) for pattern in patterns),
        *(spell(MATCH_LIST, column="x", regex_list=patterns[:3], match_on=on) for on in (None, "any", "all")),
        spell("expect_column_values_to_not_match_regex_list", column="x", regex_list=patterns[:3]),
    )


@settings(max_examples=2000)
@given(_PATTERNS, st.text(st.sampled_from(_LETTERS_OF_SUBJECTS), max_size=6))
def test_translated_patterns_match_as_in_python(pattern: str, subject: str) -> None:
    translated = translate_regex(pattern)
    if translated is not None:
        found = DUCKDB.execute(f"select regexp_matches($1, '{translated}')", [subject]).fetchall()[0][0]
        assert found == (re.search(pattern, subject) is not None)


@pytest.mark.parametrize("pattern", [".", r"\d", r"\D", r"\s", r"\S", "[^a]", r"[\d\s]", r"[^\d]", "a?$", "^é"])
def test_patterns_judge_every_letter_of_unicode_as_python_does(pattern: str) -> None:
    letters = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF]
    rows = pa.table({"x": letters})
    predicate = compile_predicate(expect(MATCH, column="x", regex=pattern), {"x": pa.string()})

    assert predicate is not None
    compiled = re.compile(pattern)
    wrong = [place for place, letter in enumerate(letters) if not compiled.search(letter)]
    assert list(count_rows(rows, [predicate])[0].positions) == wrong


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            r"\w",
            r"\bа",
            r"[\w-]",
            "(?i)a",
            "(?i:a)",
            "(?m)^a$",
            "(?s).",
            "(?x) a",
            "(?a)\\d",
            "a(?=b)",
            "(?<!a)b",
            r"(a)\1",
        ),
        *("a$b", "(a$)+", "(a)?(?(1)b|c)", "(?>a)b", "a++", "a{1001}", "((a{50}){50}){50}", "\ud800", "[\ud800]"),
    ],
)
def test_pattern_that_is_not_proven_stays_with_great_expectations(pattern: str) -> None:
    assert translate_regex(pattern) is None


@pytest.mark.parametrize("pattern", ["a{490}", "(a{10}){40}", "[a-z]{400}", r"\S{490}", r"(\d|\s){90}"])
def test_largest_patterns_run_in_duckdb(pattern: str) -> None:
    table = pa.table({"x": ["a" * 1000, "b"]})

    assert compare(table, spell(MATCH, column="x", regex=pattern)) == [True]


# --- what is compiled --------------------------------------------------------------------------


def test_the_page_has_a_row_for_each_row_expectation() -> None:
    assert set(EXAMPLES) == ROW_TYPES


@settings(max_examples=15)
@given(st.data())
@pytest.mark.parametrize("type_", sorted(EXAMPLES))
def test_each_row_of_the_page_is_judged_as_it_says(type_: str, data: st.DataObject) -> None:
    for word, (kind, _value) in KINDS_SHOWN.items():
        name = next(name for name, (arrow, _values) in KINDS.items() if arrow.equals(kind))
        table = data.draw(columns(st.just(name), "xy"))
        expectation = expect(type_, **EXAMPLES[type_](KINDS_SHOWN[word]))

        assert compare(table, expectation) == [word in judged_by_duckdb(type_)]


@pytest.mark.parametrize(
    "kind", [pa.float16(), pa.timestamp("s"), pa.timestamp("ns", "UTC"), pa.list_(pa.int8()), pa.decimal256(40, 2)]
)
def test_types_that_rows_never_have_stay_with_great_expectations(kind: pa.DataType) -> None:
    assert compile_predicate(expect(NOT_NULL, column="x"), {"x": kind}) is None


def test_names_that_differ_by_case_stay_with_great_expectations() -> None:
    table = pa.table({"x": [1], "X": [None], "y": [1]})

    assert compare(table, expect(NOT_NULL, column="x"), expect(NOT_NULL, column="y")) == [False, True]


@pytest.mark.parametrize("name", ["select", 'a"b', "a'b", "ä b", "penstock_rows", "x; drop table y", "{x}", "$1"])
def test_any_name_of_a_column_is_quoted(name: str) -> None:
    table = pa.table({name: [1, None, 3]})

    assert compare(table, expect(BETWEEN, column=name, max_value=2)) == [True]


def test_predicate_of_one_row_needs_no_table() -> None:
    """The interface that an endpoint for single rows can use."""
    predicate = compile_predicate(expect(BETWEEN, column="x", max_value=2), {"x": pa.int64()})

    assert predicate is not None
    (found,) = DUCKDB.execute(f"select {predicate.unexpected} from (select 3::bigint as x)").fetchall()
    assert found == (True,)
