"""A file that only one process can open is closed when its last reader ends."""

import gc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import sqlalchemy as sa

from penstock.serving.released import release_files
from penstock.tasks.process_resources import connector


def test_a_file_that_two_readers_used_is_closed(tmp_path: Path, use_settings: Callable[..., object]) -> None:
    file = tmp_path / "shop.duckdb"
    duckdb.connect(str(file)).close()
    use_settings(shop=f"duckdb:///{file}")
    opens = [sys.executable, "-c", "import duckdb, sys; duckdb.connect(sys.argv[1])", str(file)]
    gc.disable()  # the collector would close what nobody refers to
    try:
        with release_files(connector()) as first, first("shop").reading() as connection:
            with release_files(connector()) as second, second("shop").reading() as other:
                other.execute(sa.text("select 1"))
            connection.execute(sa.text("select 1"))

        subprocess.run(opens, check=True)
    finally:
        gc.enable()
