"""Dirty files through the command line: rows, values and scores are those of other readers and of XGBoost itself.

The other readers are pandas, pyarrow and Python's `csv` and `json`. They get the dialect of each file as arguments.
"""

import bz2
import csv
import gzip
import io
import json
import lzma
import shutil
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xgboost as xgb
from typer.testing import CliRunner

from penstock.cli.app import app
from penstock.database.connections import Database, open_database
from penstock.ledger.quarantine import quarantined_rows
from penstock.ledger.reader import list_runs
from penstock.models.registry import Registry

SPEC = """
name: dirty
sources:
  rows:
    kind: files
    path: files/*
    format: {format}
    key: [{key}]
    max_malformed: 0.6
{source}
{features}
model: dirty@champion
destination: {{connection: warehouse, table: dirty_scores, keep: [{keep}]}}
quarantine_limit: 0.6
"""
FEATURES, COLOURS = ["x", "n", "c"], ["red", "green", "blue"]
BERLIN = ZoneInfo("Europe/Berlin")


def make_rows(count: int = 40, first: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(first)
    return pd.DataFrame(
        {
            "id": range(first, first + count),
            "x": rng.normal(0, 2000, count).round(2),
            "n": rng.integers(0, 9, count),
            "c": rng.choice(COLOURS, count),
        }
    )


ROWS = make_rows()
LINES = ROWS.to_csv(index=False).splitlines()
QUOTED = ROWS.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC).splitlines()
START = datetime(2026, 3, 1, 12, 30, 15, 250_000, UTC)
TIMES = [START + timedelta(hours=7 * n) for n in range(len(ROWS))]


def text_of(table: pd.DataFrame, **how: Any) -> str:
    return table.to_csv(index=False, lineterminator="\n", **how)


def with_column(name: str, values: Sequence[Any]) -> pd.DataFrame:
    return ROWS.assign(**{name: [values[n % len(values)] for n in range(len(ROWS))]})


def micros(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@dataclass(frozen=True)
class Case:
    files: Mapping[str, bytes | str]
    read: Callable[[Path], pd.DataFrame]
    """The other reader: it gets the folder, and returns the key `id`, the features and the other kept columns."""
    source: str = ""
    """What the spec states of the files."""
    asked: str = ""
    """What `penstock check` says while that is not stated. Empty: it is stated at once."""
    features: str = ""
    keep: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    """The reasons of refused rows, in their order."""
    format: str = "csv"
    key: str = "id"


def by_pandas(name: str = "a.csv", **how: Any) -> Callable[[Path], pd.DataFrame]:
    return lambda folder: pd.read_csv(folder / name, **how)


def by_csv(keep: Callable[[list[str]], bool]) -> Callable[[Path], pd.DataFrame]:
    """Read line by line, so that a broken line has no part in the next one."""

    def read(folder: Path) -> pd.DataFrame:
        lines = (folder / "a.csv").read_text().splitlines()
        header, *rows = (next(csv.reader([line])) for line in lines)
        kept = [row for row in rows if keep(row)]
        return pd.DataFrame(kept, columns=header).astype({"id": int, "x": float, "n": float})

    return read


def by_json(get: Callable[[Any], Sequence[Any]], make: Callable[[Any], dict[str, Any]]) -> Any:
    return lambda folder: pd.DataFrame([make(record) for record in get((folder / "a.json").read_text())])


def json_lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def zipped(name: str, text: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, text)
    return out.getvalue()


def zstd(text: str) -> bytes:
    return bytes(pa.Codec("zstd").compress(text.encode(), asbytes=True))


def parquet(table: pa.Table, **how: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, **how)
    return out.getvalue()


# --- the files -----------------------------------------------------------------------------------


def german(value: float) -> str:
    return f"{value:,.2f}".translate(str.maketrans(",.", ".,"))


def packed() -> Case:
    parts = [make_rows(20, first) for first in (1, 21, 41, 61, 81)]
    texts = [text_of(part) for part in parts]
    files: dict[str, bytes | str] = {
        "a.csv.gz": gzip.compress(texts[0].encode()),
        "b.csv.bz2": bz2.compress(texts[1].encode()),
        "c.csv.xz": lzma.compress(texts[2].encode()),
        "d.csv.zst": zstd(texts[3]),
        "e.csv.zip": zipped("e.csv", texts[4]),
    }

    def read(folder: Path) -> pd.DataFrame:
        plain = [pd.read_csv(folder / name) for name in files if name != "d.csv.zst"]
        with pa.input_stream(folder / "d.csv.zst", compression="zstd") as stream:
            return pd.concat([*plain, pd.read_csv(stream)])

    return Case(files, read)


def epochs() -> Case:
    units = {"s": 1_000_000, "ms": 1_000, "us": 1}
    table = ROWS.assign(**{unit: [micros(t) // size for t in TIMES] for unit, size in units.items()})
    table = table.assign(ns=[micros(t) * 1000 + 7 for t in TIMES], float=[f"{micros(t) / 1e6:.6f}" for t in TIMES])
    formats = {"s": "epoch_s", "ms": "epoch_ms", "us": "epoch_us", "ns": "epoch_ns", "float": "epoch_s"}
    declared = ", ".join(f"{c}: {{type: timestamp, format: {form}}}" for c, form in formats.items())
    selected = ", ".join(f'epoch_us("{c}") as "{c}"' for c in formats)

    def read(folder: Path) -> pd.DataFrame:
        found = pd.read_csv(folder / "a.csv", dtype={"float": str})
        sizes = {**units, "ns": 1, "float": 1}
        numbers = {c: [int(v) * sizes[c] for v in found[c]] for c in units}
        numbers["ns"] = [int(v) // 1000 for v in found["ns"]]
        numbers["float"] = [int(Decimal(v) * 1_000_000) for v in found["float"]]
        return found.assign(**numbers)

    return Case(
        {"a.csv": text_of(table)},
        read,
        f"    columns: {{{declared}}}",
        features=f"select id, x, n, c, {selected} from rows",
        keep=tuple(formats),
    )


def stated_dates() -> Case:
    table = ROWS.assign(
        day=[t.strftime("%Y%m%d") for t in TIMES],
        us=[f"{1 + n % 12:02}/{1 + n % 11:02}/2026" for n in range(len(ROWS))],
        log=[t.strftime("%d/%b/%Y:%H:%M:%S") for t in TIMES],
    )

    def read(folder: Path) -> pd.DataFrame:
        found = pd.read_csv(folder / "a.csv", dtype=str)
        formats = {"day": "%Y%m%d", "us": "%m/%d/%Y", "log": "%d/%b/%Y:%H:%M:%S"}
        times = {
            c: [micros(datetime.strptime(v, form).replace(tzinfo=UTC)) for v in found[c]] for c, form in formats.items()
        }
        return found.assign(**times).astype({"id": int, "x": float, "n": float})

    return Case(
        {"a.csv": text_of(table)},
        read,
        '    columns: {day: {type: date, format: "%Y%m%d"}, us: {type: date, format: "%m/%d/%Y"}, '
        'log: {type: timestamp, format: "%d/%b/%Y:%H:%M:%S"}}',
        asked="`us` has dates like `",
        features="select id, x, n, c, epoch_us(day) as day, epoch_us(us) as us, epoch_us(log) as log from rows",
        keep=("day", "us", "log"),
    )


def local_times() -> Case:
    texts = ["2025-10-26 01:30:00", "2025-10-26 02:30:00", "2025-10-26 03:30:00", "2026-07-01 12:00:00"]
    texts += ["2026-03-29 02:30:00"]  # the clock jumps over it

    def read(folder: Path) -> pd.DataFrame:
        found = pd.read_csv(folder / "a.csv")
        clear = found[~found["t"].str.contains(" 02:30")]
        local = [datetime.fromisoformat(v).replace(tzinfo=BERLIN) for v in clear["t"]]
        return clear.assign(us=[micros(t.astimezone(UTC)) for t in local])

    return Case(
        {"a.csv": text_of(with_column("t", texts))},
        read,
        "    timezone: Europe/Berlin\n    columns: {t: timestamp}",
        features="select id, x, n, c, epoch_us(t) as us from rows",
        keep=("us",),
        refused=("`t`: does not fit the type timestamp iso,",) * 16,
    )


def all_of_parquet() -> Case:
    count = len(ROWS)
    table = pa.table(
        {
            "id": pa.array(ROWS["id"], pa.uint64()),
            "price": pa.array([Decimal(f"{v:.2f}") for v in ROWS["x"]], pa.decimal128(12, 2)),
            "n": pa.array(ROWS["n"], pa.int8()),
            "c": pa.array(ROWS["c"]).dictionary_encode(),
            "big": pa.array([2**64 - 1 - n for n in range(count)], pa.uint64()),
            "t": pa.array([micros(t) * 1000 + 7 for t in TIMES], pa.timestamp("ns", "UTC")),
            "day": pa.array([t.date() for t in TIMES], pa.date32()),
            "user": pa.array([{"age": n, "tags": ["a", "b"][: n % 3]} for n in range(count)]),
            "more": pa.array([[("k", n)] for n in range(count)], pa.map_(pa.string(), pa.int64())),
        }
    )

    def read(folder: Path) -> pd.DataFrame:
        [file] = folder.iterdir()
        read_ = pq.read_table(file)
        rows = read_.drop_columns(["t"]).to_pylist()
        found = pd.DataFrame(
            {
                "id": [r["id"] for r in rows],
                "x": [float(r["price"]) for r in rows],
                "n": [r["n"] for r in rows],
                "c": [r["c"] for r in rows],
                "big": [str(r["big"]) for r in rows],
                "us": [v.value // 1000 for v in read_["t"]],
                "day": [(r["day"] - date(1970, 1, 1)).days for r in rows],
                "age": [r["user"]["age"] for r in rows],
                "tags": [len(r["user"]["tags"]) for r in rows],
                "k": [dict(r["more"])["k"] for r in rows],
            }
        )
        return found

    query = (
        "select id, price::double as x, n, c, big::varchar as big, epoch_us(t) as us, "
        "date_diff('day', date '1970-01-01', day) as day, \"user\".age as age, len(\"user\".tags) as tags, "
        "more['k'] as k from rows"
    )
    keep = ("big", "us", "day", "age", "tags", "k")
    return Case({"a.parquet": parquet(table)}, read, features=query, keep=keep, format="parquet")


def old_parquet() -> Case:
    table = pa.Table.from_pandas(ROWS, preserve_index=False).append_column("t", pa.array(TIMES, pa.timestamp("us")))
    content = parquet(table, use_deprecated_int96_timestamps=True)

    def read(folder: Path) -> pd.DataFrame:
        found = pq.read_table(folder / "a.parquet").to_pandas()
        return found.assign(us=found["t"].astype("int64") // 1000)

    return Case(
        {"a.parquet": content},
        read,
        features="select id, x, n, c, epoch_us(t) as us from rows",
        keep=("us",),
        format="parquet",
    )


def late_types() -> Case:
    records: list[dict[str, Any]] = [{"id": n, "x": 1, "n": n % 7, "t": True} for n in range(5_000)]
    records += [{"id": 5_000, "x": 2.75, "n": 3, "t": 2, "c": "red"}, {"id": 5_001, "x": 3, "n": 1, "c": "blue"}]

    def make(record: dict[str, Any]) -> dict[str, Any]:
        return {"t": None, "c": None} | record | ({"t": json.dumps(record["t"])} if "t" in record else {})

    return Case({"a.json": "\n".join(map(json.dumps, records))}, by_json(json_lines, make), format="json", keep=("t",))


RECORDS = ROWS.to_dict("records")
NESTED = [
    {"id": r["id"], "m": {"x": r["x"], "n": r["n"], "sim": 123456789012345678901234 + r["id"]}, "tags": [r["c"], "z"]}
    for r in RECORDS
]
CASES: dict[str, Case] = {
    "CRLF mixed with LF": Case(
        {"a.csv": b"".join(line.encode() + (b"\r\n" if n % 3 else b"\n") for n, line in enumerate(LINES))}, by_pandas()
    ),
    "latin-1": Case(
        {"a.csv": text_of(with_column("t", ["größer", "\x85é", "a"])).encode("latin-1")},
        by_pandas(encoding="latin-1"),
        "    csv: {encoding: latin-1}",
        keep=("t",),
    ),
    "windows-1252": Case(
        {"a.csv": text_of(with_column("t", ["5 €", "“so”", "a"])).encode("cp1252")},
        by_pandas(encoding="cp1252"),
        "    csv: {encoding: cp1252}",
        asked="is not in UTF-8",
        keep=("t",),
    ),
    "UTF-16 without a mark": Case(
        {"a.csv": text_of(with_column("t", ["größer", "日本", "a"])).encode("utf-16-le")},
        by_pandas(encoding="utf-16-le"),
        keep=("t",),
    ),
    "UTF-8 with a mark": Case({"a.csv": text_of(ROWS).encode("utf-8-sig")}, by_pandas(encoding="utf-8-sig")),
    "semicolons, decimal commas and thousands": Case(
        {"a.csv": text_of(ROWS.assign(x=ROWS["x"].map(german)), sep=";")},
        by_pandas(sep=";", decimal=",", thousands="."),
    ),
    "signs, trailing separators and blanks": Case(
        {"a.csv": "id,x,n,c,\n" + "".join(f"{r['id']},{r['x']:+}, {r['n']} ,{r['c']},\n" for r in RECORDS)},
        by_pandas(index_col=False, usecols=["id", "x", "n", "c"]),
    ),
    "lines before the table and a TOTAL below it": Case(
        {"a.csv": f"Report of today\nmade by hand\n{text_of(ROWS)}TOTAL,40\n"},
        by_pandas(skiprows=2, skipfooter=1, engine="python"),
        refused=("2 fields instead of 4",),
    ),
    "gz, bz2, xz, zst and zip": packed(),
    "a JSON array": Case({"a.json": json.dumps(RECORDS, indent=1)}, by_json(json.loads, dict), format="json"),
    "nested JSON, with numbers beyond 64 bits": Case(
        {"a.json": json.dumps({"data": {"items": NESTED}, "count": 40})},
        by_json(
            lambda text: json.loads(text)["data"]["items"],
            lambda r: {"id": r["id"], "x": r["m"]["x"], "n": r["m"]["n"], "c": r["tags"][0], "sim": str(r["m"]["sim"])},
        ),
        "    json: {records: data.items}",
        asked="line 1 is not clear in where its records are",
        features="select id, m.x as x, m.n as n, tags[1] as c, m.sim::varchar as sim from rows",
        keep=("sim",),
        format="json",
    ),
    "JSON types and keys that come late": late_types(),
    "ids of twenty digits": Case(
        {"a.csv": text_of(ROWS.assign(id=[12345678901234567890 + n for n in range(40)]))}, by_pandas(dtype={"id": str})
    ),
    "epoch numbers in each unit": epochs(),
    "dates in stated formats": stated_dates(),
    "local times of autumn and spring": local_times(),
    "ragged lines": Case(
        {"a.csv": "\n".join([*LINES[:9], "9,1", *LINES[10:20], "20,1,2,red,more", *LINES[21:], ""])},
        by_csv(lambda row: len(row) == 4),
        refused=("2 fields instead of 4", "5 fields instead of 4"),
    ),
    "dates that are none": Case(
        {"a.csv": text_of(with_column("on", ["2026-01-01", "0000-00-00", "2026-02-01", "2026-02-03"]))},
        lambda folder: pd.read_csv(folder / "a.csv").query("on != '0000-00-00'"),
        "    columns: {on: date}",
        features="select id, x, n, c from rows where \"on\" > date '2025-01-01'",
        refused=("`on`: does not fit the type date iso:",) * 10,
    ),
    "escape characters": Case(
        {"a.csv": text_of(with_column("t", ['say "hi", you', "plain"]), doublequote=False, escapechar="\\")},
        by_pandas(doublequote=False, escapechar="\\"),
        keep=("t",),
    ),
    "quotes that do not close": Case(
        {"a.csv": "\n".join([*QUOTED[:9], '9,1,2,"red', *QUOTED[10:20], '20,1,2,"green', *QUOTED[21:], ""])},
        by_csv(lambda row: row[0] not in ("9", "20")),
        refused=("a quote that is not closed",) * 2,
    ),
    "headers of files that were put into one": Case(
        {"a.csv": "\n".join([*LINES[:15], LINES[0], *LINES[15:30], f"\ufeff{LINES[0]}", *LINES[30:], ""])},
        by_csv(lambda row: row[1] != "x"),
        refused=("repeats the header",) * 2,
    ),
    "three rows of words without a header": Case(
        {"a.csv": "k1,red\nk2,blue\nk3,red\n"},
        lambda folder: pd.read_csv(folder / "a.csv", header=None, names=["id", "c"]).assign(x=1.0, n=2.0),
        "    csv: {names: [id, c]}",
        features="select id, 1::double as x, 2::double as n, c from rows",
    ),
    "years as a header": Case(
        {"a.csv": "2019,2020\n" + "".join(f"{n},{n % 3}.5\n" for n in (5, 3, 9, 1))},
        lambda folder: (
            pd.read_csv(folder / "a.csv")
            .assign(id=[f"a.csv:{n}" for n in range(4)], c="red")
            .rename(columns={"2019": "x", "2020": "n"})
        ),
        "    csv: {header: true}",
        asked="line 1 is a header or a row",
        features='select _row_id, "2019" as x, "2020" as n, \'red\' as c from rows',
        key="_row_id",
    ),
    "colours and comments": Case(
        {
            "a.csv": "# of today\nt,id,x,n,c\n"
            + "".join(f"#ff{r['id']:04},{r['id']},{r['x']},{r['n']},{r['c']}\n" for r in RECORDS)
            + "# end of the file\n"
        },
        by_pandas(skiprows=1, skipfooter=1, engine="python"),
        '    csv: {skip: 1, comment: ""}',
        asked="a comment or a row",
        keep=("t",),
        refused=("1 field instead of 5",),
    ),
    "comments between rows": Case(
        {"a.csv": "\n".join([*LINES[:9], "# checked", *LINES[9:20], "#", *LINES[20:], ""])}, by_pandas(comment="#")
    ),
    "pipes": Case({"a.csv": text_of(with_column("t", ["a, b; c", "d"]), sep="|")}, by_pandas(sep="|"), keep=("t",)),
    "tabs, and values with line ends": Case(
        {"a.csv": text_of(with_column("t", ["two\nlines", "a\tb", 'say "hi"']), sep="\t")},
        by_pandas(sep="\t"),
        keep=("t",),
    ),
    "empty files among others": Case(
        {"a.csv": text_of(ROWS), "b.csv": "", "c.csv": LINES[0] + "\n", "d.csv": LINES[0]}, by_pandas()
    ),
    "two columns of one name": Case(
        {"a.csv": "\n".join(["id,x,x,c", *LINES[1:], ""])},
        by_pandas(header=0, names=["id", "x", "n", "c"]),
        "    csv: {header: true, names: [id, x, n, c]}",
        asked="it has the columns `x` twice",
    ),
    "a dump of MySQL": Case(
        {
            "a.csv": "id\tx\tn\tc\tt\n"
            + "".join(
                f'{r["id"]}\t{r["x"] if r["id"] % 3 else chr(92) + "N"}\t{r["n"]}\t{r["c"]}\t"a \\" b"\n'
                for r in RECORDS
            )
        },
        by_pandas(sep="\t", escapechar="\\", doublequote=False, na_values={"x": ["N"]}),
        keep=("t",),
    ),
    "Parquet of many types": all_of_parquet(),
    "Parquet with INT96": old_parquet(),
}


# --- the command line ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def booster(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, xgb.Booster]:
    """A model of its own, trained by XGBoost alone, and the store that has it."""
    folder = tmp_path_factory.mktemp("model")
    rows = make_rows(600, first=1_000)[FEATURES].astype({"x": float, "n": float})
    rows["c"] = pd.Categorical(rows["c"], COLOURS)
    rows.loc[::7, "x"], rows.loc[::11, "c"] = np.nan, np.nan
    label = (rows["x"].fillna(0) > 100 * rows["n"]) ^ (rows["c"] == "red")
    data = xgb.DMatrix(rows, label.astype(int), enable_categorical=True)
    model = xgb.train({"objective": "binary:logistic", "nthread": 1, "max_depth": 4}, data, num_boost_round=10)
    model.save_model(folder / "dirty.ubj")
    Registry(folder / "models").register("dirty", folder / "dirty.ubj", pa.Table.from_pandas(rows), alias="champion")
    return folder / "models", model


@dataclass(frozen=True)
class Place:
    folder: Path
    warehouse: Database
    model: xgb.Booster


@pytest.fixture
def place(
    tmp_path: Path,
    booster: tuple[Path, xgb.Booster],
    use_settings: Callable[..., Any],
    database_url: Callable[[str, str], str],
    prefect_api: str,
) -> Place:
    settings = use_settings(warehouse=database_url("sqlite", "warehouse"))
    shutil.copytree(booster[0], settings.models_folder)
    (tmp_path / "files").mkdir()
    return Place(tmp_path, open_database(settings, "warehouse"), booster[1])


def invoke(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(arguments))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def write_spec(case: Case, *, stated: bool) -> None:
    keep = ", ".join([*FEATURES, *case.keep])
    features = f"features: |\n  {case.features}" if case.features else ""
    source = case.source if stated else ""
    text = SPEC.format(format=case.format, key=case.key, source=source, features=features, keep=keep)
    Path("dirty.yaml").write_text(text)


def score(model: xgb.Booster, table: pd.DataFrame) -> list[float]:
    features = table[FEATURES].astype({"x": float, "n": float})
    features["c"] = pd.Categorical(features["c"], COLOURS)
    return [float(v) for v in model.predict(xgb.DMatrix(features, enable_categorical=True))]


def same(value: Any) -> Any:
    """Return a value as it is compared: NaN is None."""
    return None if value is None or value != value else value  # NaN


def published(place: Place, case: Case) -> dict[str, tuple[Any, ...]]:
    names = ["score", *FEATURES, *case.keep]
    listed = ", ".join(f'"{name}"' for name in (case.key, *names))
    with place.warehouse.reading() as connection:
        rows = connection.exec_driver_sql(f"select {listed} from dirty_scores").all()
    return {str(key): tuple(map(same, values)) for key, *values in rows}


def expected(place: Place, case: Case) -> dict[str, tuple[Any, ...]]:
    table = case.read(place.folder / "files")
    scores = score(place.model, table)
    columns = [table[name].tolist() for name in (*FEATURES, *case.keep)]
    keys = map(str, table["id"].tolist())
    return {key: tuple(map(same, values)) for key, *values in zip(keys, scores, *columns, strict=True)}


@pytest.mark.parametrize("name", CASES)
def test_rows_values_and_scores_are_those_of_another_reader_and_of_xgboost(place: Place, name: str) -> None:
    case = CASES[name]
    for file, content in case.files.items():
        (place.folder / "files" / file).write_bytes(content.encode() if isinstance(content, str) else content)

    if case.asked:
        write_spec(case, stated=False)
        code, said = invoke("check", "dirty.yaml")
        assert (code, case.asked in said) == (1, True), said
    write_spec(case, stated=True)
    code, said = invoke("check", "dirty.yaml", "--write")
    assert code == 0, said
    code, said = invoke("run", "dirty.yaml")
    assert code == 0, said

    assert published(place, case) == expected(place, case)
    refused = quarantined_rows(place.warehouse)
    assert len(refused) == len(case.refused), [row.reasons for row in refused]
    assert [row.reasons[0][: len(why)] for row, why in zip(refused, case.refused, strict=True)] == [*case.refused]
    [run] = list_runs(place.warehouse)
    assert (run.rows_extracted, run.rows_quarantined) == (run.rows_scored + len(case.refused), len(case.refused))


DAYS = """
name: dirty
interval: {column: t, grain: 1d, start: 2026-03-01}
sources:
  rows: {kind: files, path: "files/{interval_start:%Y-%m-%d}.csv", format: csv, key: [id], max_malformed: 0.6}
model: dirty@champion
destination: {connection: warehouse, table: dirty_scores, keep: [x, n, c]}
quarantine_limit: 0.6
"""


def test_a_text_among_the_numbers_of_the_second_day_refuses_its_rows_alone(place: Place) -> None:
    tables = [make_rows(40, 1), make_rows(40, 41)]
    for day, table in enumerate(tables, 1):
        file = place.folder / f"files/2026-03-{day:02}.csv"
        text_ = text_of(table.assign(t=f"2026-03-{day:02} 10:00:00"))
        file.write_text(text_ if day == 1 else text_.replace("\n45,", "\n45,NA,1,red,2026-03-02 10:00:00\n45,"))
    Path("dirty.yaml").write_text(DAYS)

    code, said = invoke("check", "dirty.yaml", "--write", "--end", "2026-03-02")
    assert code == 0, said
    code, said = invoke("run", "dirty.yaml", "--end", "2026-03-03")
    assert code == 0, said

    case = Case({}, lambda folder: pd.concat(tables))
    assert published(place, case) == expected(place, case)
    [refused] = quarantined_rows(place.warehouse)
    assert refused.reasons == ("`x`: does not fit the type number: 'NA'",)
    assert json.loads(refused.row)["line"] == 6
