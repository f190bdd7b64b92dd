"""Write the generated pages: `python -m docs.generator`, in the root of the checkout."""

from pathlib import Path

from docs.generator.pages import render_pages

for path, text in render_pages().items():
    Path(path).write_text(text, encoding="utf-8")
