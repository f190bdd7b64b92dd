"""The styles of texts in SQLite are found without taking each text apart."""

import re

import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.sources import sqlite_time

DATE = r"20[0-9]{2}-0[0-9]-[0-9]{2}"
CLOCK = r"[ T/][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?"
ZONE = r"[zZ]|[+-]0[0-3](:?[03]0)?"
SHAPES = st.from_regex(re.compile(rf"{DATE}({CLOCK}({ZONE})?)?[*?\[ ]?", re.ASCII), fullmatch=True)
ZONED = ("2026-01-01 10:00:00+01:00", "2026-01-01 10:00:00+02:00", "2026-01-01 10:00:00-0100", "2026-01-01 10:00:00-01")
PLAIN = ("2026-01-01", "2026-01-02T10:00", "2026-01-02 10:00", "2026-01-02 1a:00", "2026-01-01 10:00:00.123Z")
FEW = st.sampled_from([*ZONED, *PLAIN])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(SHAPES, FEW), max_size=6))
def test_a_text_with_the_shape_of_the_first_has_its_style(texts: list[str]) -> None:
    with sa.create_engine("sqlite://").connect() as connection:
        connection.exec_driver_sql("create table t (c)")
        for text in texts:
            connection.exec_driver_sql("insert into t values (?)", (text,))
        rows = sa.table("t", sa.column("c"))
        value = sa.type_coerce(rows.c.c, sa.Text())

        quick = sqlite_time._styles(connection, rows, value, [value > ""])
        whole = sqlite_time._group_styles(connection, rows, value, [value > ""])

    assert {(s.separator, s.zone, s.is_readable) for s in quick} == {
        (s.separator, s.zone, s.is_readable) for s in whole
    }
