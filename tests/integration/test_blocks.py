"""A connection may name a Prefect block instead of a URL."""

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.database.connections import open_database
from penstock.errors import SettingsError


@pytest.mark.usefixtures("prefect_api")
def test_a_connection_may_live_in_a_secret_block(use_settings: Callable[..., Any]) -> None:
    from prefect.blocks.system import Secret

    from penstock.tasks.process_resources import connect

    Secret(value="sqlite:///in-a-block.db").save("shop-url", overwrite=True)
    settings = use_settings(shop="block:secret/shop-url")

    with connect("shop").reading() as connection:
        assert connection.execute(sa.text("select 1")).scalar() == 1
    with pytest.raises(SettingsError, match="names the Prefect block"):
        open_database(settings, "shop")


@pytest.mark.parametrize("value", ['{"access_key_id": "a"}', {"access_key_id": "a"}], ids=["text", "object"])
@pytest.mark.usefixtures("prefect_api")
def test_the_options_of_an_object_store_may_live_in_a_secret_block(
    value: str | dict[str, str], use_settings: Callable[..., Any]
) -> None:
    from prefect.blocks.system import Secret

    from penstock.object_stores import parse_access
    from penstock.tasks.process_resources import connector

    Secret(value=value).save("lake-options", overwrite=True)
    use_settings(lake="block:secret/lake-options")
    connect = connector()

    assert connect.read_value is not None
    assert parse_access("lake", connect.read_value("lake")).options == (("access_key_id", "a"),)
