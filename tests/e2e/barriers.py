"""What keeps a person from using a page: what axe finds, and a page that is wider than the screen."""

from typing import Any

from axe_playwright_python.sync_playwright import Axe

PHONE = 360
"""Width of a small phone in pixels."""
_OPTIONS = {"resultTypes": ["violations"], "rules": {"target-size": {"enabled": True}}}
"""All rules of axe that are on by themselves, and the size of links and buttons, which WCAG asks for since 2.2."""
_TOO_WIDE = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


def find_barriers(page: Any) -> list[str]:
    """Return what is wrong with the open page, each with its place. Nothing is too small to be named."""
    found = Axe().run(page, options=_OPTIONS).response["violations"]
    barriers = [f"{each['id']} ({each['impact']}): {node['html'][:150]}" for each in found for node in each["nodes"]]
    excess = page.evaluate(_TOO_WIDE)
    return [*barriers, *([f"{excess} pixels wider than the screen"] if excess > 0 else [])]
