"""An error while files are read names the source, and no connection that does not exist."""

import pytest
import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from penstock.database.connections import Database
from penstock.database.driver_errors import translated_errors
from penstock.errors import FilesFailed, QueryFailed


def test_a_failed_read_of_files_names_the_source() -> None:
    database = Database("rows", sa.create_engine("duckdb:///:memory:", poolclass=StaticPool))
    with pytest.raises(FilesFailed) as caught, translated_errors(database), database.engine.connect() as connection:
        connection.exec_driver_sql("select cast('x' as integer)")

    assert isinstance(caught.value, QueryFailed)
    assert str(caught.value).startswith("source `rows`: its files cannot be read")
    assert "connection" not in str(caught.value)
    assert "query" not in str(caught.value)
