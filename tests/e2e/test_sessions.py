"""The pages with sessions, followed from an empty folder as a reader would, and held to what they show."""

from pathlib import Path

import pytest

from docs.generator.session import PAGES, Session, mask


@pytest.mark.slow
@pytest.mark.timeout(900)  # dozens of commands, many of which start a server of their own
@pytest.mark.parametrize("name", PAGES)
def test_the_sessions_of_a_page_show_what_really_happens(name: str, tmp_path: Path) -> None:
    page = PAGES[name].read_text(encoding="utf-8")

    followed = Session(page, tmp_path).follow()

    assert mask(followed) == mask(page), f"`python -m docs.generator.session {name}` writes the page anew"
