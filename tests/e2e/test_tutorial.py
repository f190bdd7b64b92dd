"""The tutorial, followed from an empty folder to a running schedule, and held to what its page shows."""

from pathlib import Path

import pytest

from docs.generator.session import PAGE, Session, mask


@pytest.mark.slow
@pytest.mark.timeout(900)  # a dozen commands, each of which starts a server of its own
def test_the_tutorial_shows_what_really_happens(tmp_path: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")

    followed = Session(page, tmp_path).follow()

    assert mask(followed) == mask(page), "`python -m docs.generator.session` writes the page anew"
