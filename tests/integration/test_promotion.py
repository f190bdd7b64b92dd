"""A promotion from its evidence to the move of the alias: once or not at all, whatever happens in between."""

from collections.abc import Callable

import pytest

from tests.conftest import DIALECTS
from tests.promotions import PromotingShop, make_promoting_shop
from tests.shop import Place


@pytest.fixture
def shop(make_place: Callable[..., Place], request: pytest.FixtureRequest) -> PromotingShop:
    return make_promoting_shop(make_place, getattr(request, "param", "sqlite"))


@pytest.mark.parametrize("shop", DIALECTS, indirect=True)
def test_the_alias_moves_once_after_a_person_approved(shop: PromotingShop) -> None:
    asked = shop.advance()
    assert (asked.step, shop.champion) == ("wait", "1"), asked.why

    moved = shop.answer()

    assert moved.step == "settle", moved.why
    assert (shop.champion, shop.moves, shop.states()) == ("2", [("1", "2", "Ada")], ["moved"])
    assert shop.advance().step == "nothing"
    assert shop.moves == [("1", "2", "Ada")]
