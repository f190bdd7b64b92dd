"""W7: lines of an access log, landed, aggregated into features and scored."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.batch import SAMPLE, make_rows, register_model
from benchmarks.moving import create_table
from benchmarks.place import Place
from benchmarks.workload import DAY, FLOOR, PENSTOCK, START, Limit, Ratio, Work, Workload

CLIENTS = 20_000
FEATURES = ("f00", "f01", "f02", "visits", "errors", "bytes")
LOG = "access.log"
AGGREGATES = "count(*) as visits, count(*) filter (status >= 500) as errors, sum(size) as bytes"

WORKLOAD = Workload(
    name="W7",
    title=f"access-log lines landed in Postgres, aggregated for {CLIENTS:,} clients, scored (rows are lines)",
    rows=1_000_000,
    check_rows=200_000,
    kind="postgresql",
    candidates={
        PENSTOCK: "benchmarks.candidates.penstock_logs",
        FLOOR: "benchmarks.candidates.floor_logs",
    },
    ratios=(Ratio(PENSTOCK, FLOOR, 1.5), Ratio(PENSTOCK, FLOOR, figure="landing_seconds")),
    limits=(Limit(PENSTOCK, "lines_a_second", "lines/s", at_least=150_000),),
    agree=(PENSTOCK, FLOOR),
)


def fill(place: Place) -> None:
    rng = np.random.default_rng(5)
    clients = make_rows(CLIENTS, FEATURES[:3])
    logins = pa.array([f"client{number}" for number in range(CLIENTS)])
    create_table(place.shop, "clients", clients.append_column("login", logins), "order_id", analyze=True)
    write_log(place, rng)
    training = make_rows(SAMPLE, FEATURES[:3])
    for name, scale in (("visits", 50), ("errors", 2), ("bytes", 200_000)):
        training = training.append_column(name, pa.array(rng.poisson(scale, SAMPLE).astype(np.int64)))
    register_model(place, training, FEATURES)


def write_log(place: Place, rng: np.random.Generator) -> None:
    """Write the lines in time order, as a server does. One in fifty is a server error."""
    client, status = rng.integers(0, CLIENTS, place.rows), np.where(rng.random(place.rows) < 0.02, 503, 200)
    path, size = rng.integers(0, 500, place.rows), rng.integers(200, 20_000, place.rows)
    seconds = np.linspace(0, DAY / timedelta(seconds=1), place.rows, endpoint=False).astype(int)
    with (Path(place.folder) / LOG).open("w", encoding="utf-8") as log:
        for c, s, p, z, t in zip(
            client.tolist(), status.tolist(), path.tolist(), size.tolist(), seconds.tolist(), strict=True
        ):
            moment = f"01/Jan/2026:{t // 3600:02d}:{t // 60 % 60:02d}:{t % 60:02d} +0000"
            log.write(
                f'10.0.{c >> 8}.{c & 255} - client{c} [{moment}] "GET /item/{p} HTTP/1.1" {s} {z} '
                '"https://shop.example/" "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"\n'
            )


def work(place: Place) -> Work:
    return Work(
        spec={
            "name": "clients",
            "interval": {"column": "created_at", "grain": "1d", "start": START.isoformat()},
            "sources": {
                "clients": {"kind": "sql", "connection": "shop", "table": "clients", "key": ["order_id"]},
                "visits": {"kind": "log", "path": f"{place.folder}/{LOG}", "format": "combined"},
            },
            "features": (
                f'with v as (select "user", {AGGREGATES} from visits group by "user") '
                "select c.order_id, f00, f01, f02, coalesce(visits, 0) as visits, coalesce(errors, 0) as errors, "
                'coalesce(bytes, 0)::bigint as bytes from clients c left join v on v."user" = c.login'
            ),
            "model": "w7@champion",
            "destination": {"connection": "warehouse", "table": "scores"},
        },
        select="select order_id, login, f00, f01, f02 from clients",
        features=FEATURES,
    )
