"""Read what targets of files and tables have, as their readers do: through the pointers, or the newest version."""

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from penstock.object_stores import is_remote, list_files, read_bytes


def list_keys(root: str) -> list[str]:
    """Return the files below a folder."""
    if is_remote(root):
        return [state.path.removeprefix(f"{root}/") for state in list_files(f"{root}/**/*")]
    return sorted(path.relative_to(root).as_posix() for path in Path(root).rglob("*") if path.is_file())


def read_key(root: str, key: str) -> bytes:
    return read_bytes(f"{root}/{key}") if is_remote(root) else (Path(root) / key).read_bytes()


def read_pointers(root: str) -> dict[str, dict[str, Any]]:
    """Return the pointers by their names."""
    found = [key for key in list_keys(root) if key.startswith("_live/") and key.endswith(".json")]
    return {key: json.loads(read_key(root, key)) for key in found}


def named_files(root: str) -> list[str]:
    """Return the files that the pointers name."""
    return sorted(file["path"] for pointer in read_pointers(root).values() for file in pointer["files"])


def data_files(root: str) -> list[str]:
    return [key for key in list_keys(root) if not key.startswith("_live/")]


def read_frames(root: str) -> pd.DataFrame:
    """Return the rows of all files that pointers name."""
    frames = []
    for key in named_files(root):
        content = io.BytesIO(read_key(root, key))
        frames.append(pd.read_parquet(content) if key.endswith(".parquet") else pd.read_csv(content))
    return pd.concat(frames) if frames else pd.DataFrame({"payment_id": [], "score": []})


def read_scores(root: str) -> dict[int, float]:
    """Return the score of each key."""
    rows = read_frames(root)
    found = {int(key): float(score) for key, score in zip(rows["payment_id"], rows["score"], strict=True)}
    assert len(found) == len(rows)
    return found


def read_delta_scores(path: str) -> dict[int, float]:
    """Return the score of each key in the newest version of a table."""
    from deltalake import DeltaTable

    if not DeltaTable.is_deltatable(path):
        return {}
    rows = pa.table(DeltaTable(path).scan())
    pairs = zip(rows["payment_id"].to_pylist(), rows["score"].to_pylist(), strict=True)
    found = {int(key): float(score) for key, score in pairs}
    assert len(found) == rows.num_rows
    return found
