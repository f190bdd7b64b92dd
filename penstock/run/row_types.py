"""The Arrow types that the columns of a source have in a run, as far as they are known before rows are read."""

from datetime import UTC, datetime

import pyarrow as pa
import sqlalchemy as sa

from penstock.database.bulk import read
from penstock.database.connections import Connector, Database
from penstock.database.types import TIMESTAMP
from penstock.interval import DataInterval
from penstock.ledger.schema_contracts import Contracts, source_definition
from penstock.sources.logs.formats import row_schema
from penstock.sources.sql import sql_relation
from penstock.spec.pipeline import Pipeline
from penstock.spec.sources import LogSource, SqlSource

NUMBER = pa.decimal128(38, 10)
"""A number whose digits no one has declared."""
_KINDS: dict[str, pa.DataType] = {
    "text": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "timestamp": TIMESTAMP,
    "number": NUMBER,
    "decimal": NUMBER,
    "nothing": pa.null(),
}
"""By the name of a type in a contract, see `penstock.run.schema_contract`."""

_ALL_TIME = DataInterval(datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))
_FIRST_ROWS = 1000


def read_row_types(
    pipeline: Pipeline, name: str, connect: Connector, contracts: Contracts
) -> dict[str, pa.DataType] | None:
    """Return the types of a source's columns: by the contract, else as its database has them now.

    The contract does not say how many digits a decimal has. The database is asked then.

    Returns:
        None if there is no contract and no database to ask: files that no run has read.

    Raises:
        DatabaseUnavailable: the database does not answer.
        SourceError: the table cannot be read.
    """
    source = pipeline.sources[name]
    if isinstance(source, LogSource):
        return {field.name: field.type for field in row_schema(source)}
    known = contracts.find(name, source_definition(source))
    types = None if known is None else {column: _KINDS[kind.partition(" ")[0]] for column, kind in known.items()}
    if not isinstance(source, SqlSource):
        return types
    database = connect(source.connection)
    if source.query is not None and not database.sql.values_as_declared:
        return _read_types_of_values(pipeline, name, source, database)
    if types is None or NUMBER in types.values():
        relation = sql_relation(name, source, database, None, None)
        query = sa.select(*relation.columns).limit(0)
        present = {field.name: field.type for field in read(relation.database, query, relation.declared).schema}
        types = (
            present
            if types is None
            else {c: present.get(c, kind) if kind == NUMBER else kind for c, kind in types.items()}
        )
    return types


def _read_types_of_values(
    pipeline: Pipeline, name: str, source: SqlSource, database: Database
) -> dict[str, pa.DataType]:
    """Return the types of the first rows of a query, of whatever time, where the database declares none for it.

    A run has the types of its values too, and the event time as a timestamp.
    """
    relation = sql_relation(name, source, database, None, _ALL_TIME)
    query = sa.select(*relation.columns).limit(_FIRST_ROWS)
    types = {field.name: field.type for field in read(database, query, relation.declared).schema}
    if name == pipeline.primary and pipeline.interval is not None:
        types[pipeline.interval.column] = TIMESTAMP
    return types
