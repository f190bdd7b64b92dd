"""Named connections: which engine a name opens."""

import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from penstock.database.connections import close_engines, open_database
from penstock.errors import SettingsError
from penstock.settings import Settings


def test_a_relative_path_starts_at_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(connections={"shop": "sqlite:///shop.db"})
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        monkeypatch.chdir(folder)
        with open_database(settings, "shop").writing() as connection:
            connection.execute(sa.text("create table payments (id integer)"))
    close_engines()

    assert (tmp_path / "one/shop.db").is_file()
    assert (tmp_path / "two/shop.db").is_file()


def test_a_server_is_opened_from_a_working_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    settings = Settings(home=tmp_path, connections={"warehouse": "postgresql://user@host/database"})
    monkeypatch.chdir(folder)
    folder.rmdir()

    assert open_database(settings, "warehouse").dialect == "postgresql"


def test_a_missing_driver_is_named_with_the_extra_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymysql", None)
    settings = Settings(connections={"shop": "mysql://user:secret@host/shop"})

    with pytest.raises(
        SettingsError, match="Install its driver: `pip install pymysql`, or Penstock's extra `mysql`"
    ) as error:
        open_database(settings, "shop")

    assert "secret" not in str(error.value)


@pytest.mark.parametrize("driver", ["mysqldb", "mysqlconnector", "asyncmy"])
def test_another_driver_of_mariadb_is_refused_because_its_values_were_not_tried(driver: str) -> None:
    settings = Settings(connections={"shop": f"mysql+{driver}://user:secret@host/shop"})

    with pytest.raises(SettingsError, match=rf"with pymysql. Write `mysql://…` without `\+{driver}`"):
        open_database(settings, "shop")
