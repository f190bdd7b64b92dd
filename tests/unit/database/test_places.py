"""A slice of a Postgres table by its places is read by COPY, which takes no parameters."""

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from penstock.database.adbc import _is_plain
from penstock.database.dialects import find_dialect
from penstock.run_types import TablePlaces


@pytest.mark.parametrize(
    ("schema", "name", "written"),
    [
        (None, "payments", "'payments'"),
        ("shop", "Pay ments", "'shop.\"Pay ments\"'"),
        (None, "it's", "'\"it''s\"'"),
        (None, "100%", "'\"100%\"'"),
        (None, "5%%", "'\"5%%\"'"),
        (None, "a:b", "'\"a:b\"'"),
    ],
)
def test_a_slice_by_places_has_no_text_parameters(schema: str | None, name: str, written: str) -> None:
    table = sa.table(name, sa.column("x"), schema=schema)
    where = find_dialect("postgresql").in_places(table, TablePlaces(file=7, first=0, end=4096))

    compiled = sa.select(table.c.x).where(*where).compile(dialect=postgresql.asyncpg.dialect())

    assert compiled.params
    assert all(_is_plain(value) for value in compiled.params.values())
    assert f"CAST({written} AS REGCLASS)" in str(compiled)
