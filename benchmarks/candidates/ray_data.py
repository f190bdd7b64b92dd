"""Ray Data on W1's work: `read_sql`, `map_batches`, `write_sql`, on a local Ray with this machine's cores.

It has no checks and no primary key.
"""

from benchmarks.place import Place
from benchmarks.workload import work_of


def ready(place: Place) -> None:
    """Start Ray, and a worker for each core with its libraries."""
    import ray

    @ray.remote
    def import_libraries() -> None:
        import xgboost  # noqa: F401 # imported before the timed part

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    ray.get([import_libraries.remote() for _ in range(2)])


def run(place: Place) -> None:
    import psycopg
    import ray
    import sqlalchemy as sa

    work, file = work_of(place), str(place.model_file)
    features = list(work.features)
    source, target = (
        sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        for url in (place.shop, place.warehouses["ray-data"])
    )

    class Scorer:
        def __init__(self) -> None:
            import xgboost as xgb

            self.booster = xgb.Booster(model_file=file)

        def __call__(self, batch):  # type: ignore[no-untyped-def] # takes and returns a frame
            scores = self.booster.inplace_predict(batch[features]).astype("float64")
            return batch[[work.key]].assign(score=scores)

    with psycopg.connect(target) as connection:
        connection.execute(f"create table scores ({work.key} bigint, score double precision)")
    rows = ray.data.read_sql(work.select, lambda: psycopg.connect(source))
    scored = rows.map_batches(Scorer, batch_format="pandas", batch_size=50_000, concurrency=1)
    scored.write_sql("insert into scores values (%s, %s)", lambda: psycopg.connect(target))


def stop() -> None:
    import ray

    ray.shutdown()
