"""Which pages are generated, and from what."""

from docs.generator.commands import render_commands
from docs.generator.errors import render_errors
from docs.generator.spec import render_spec


def render_pages() -> dict[str, str]:
    """Return the text of every generated page by its path in the checkout."""
    return {
        "docs/spec-reference.md": render_spec(),
        "docs/commands.md": render_commands(),
        "docs/errors.md": render_errors(),
    }
