"""See that all candidates of W1 wrote the same: as many rows as the source has, and equal scores."""

import sqlalchemy as sa

from benchmarks.place import WAREHOUSE, Place
from benchmarks.w1 import work

TOLERANCE = 1e-6
_SCHEMAS = {"penstock": "public", "plain": "plain", "floor": "floor"}


def empty_destination(place: Place, candidate: str) -> None:
    """Drop what an earlier round of a candidate wrote, and let Postgres settle."""
    engine = place.engine(WAREHOUSE, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        schema = _SCHEMAS[candidate]
        connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
        connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
        connection.exec_driver_sql("CHECKPOINT")
    engine.dispose()


def check_scores(place: Place) -> float:
    """Return the largest difference between the candidates' scores.

    Raises:
        RuntimeError: a candidate lacks rows, has some twice, or scores differ by more than 1e-6.
    """
    tables = {name: f"{schema}.{work.SCORES}" for name, schema in _SCHEMAS.items()}
    engine = place.engine(WAREHOUSE)
    with engine.connect() as connection:
        for name, table in tables.items():
            counts = connection.exec_driver_sql(
                f"select count(*), count(distinct order_id), count(score) from {table}"
            ).one()
            if set(counts) != {place.rows}:
                raise RuntimeError(f"{name} wrote {counts} rows, keys, scores; the source has {place.rows} rows")
        largest = "greatest(max(abs(a.score - b.score)), max(abs(a.score - c.score)))"
        ours, plain, floor = (tables[name] for name in ("penstock", "plain", "floor"))
        joined = f"{ours} a join {plain} b using (order_id) join {floor} c using (order_id)"
        joint, difference = connection.execute(sa.text(f"select count(*), {largest} from {joined}")).one()
    engine.dispose()
    if joint != place.rows or difference > TOLERANCE:
        raise RuntimeError(f"{joint} rows agree on their key, and scores differ by up to {difference}")
    return float(difference)
