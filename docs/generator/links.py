"""MkDocs hook: pages that lie outside of docs/, and links that lead out of it."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

OUTSIDE = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "benchmarks/RESULTS.md",
    "examples/README.md",
    "examples/card_fraud/README.md",
    "examples/demand/README.md",
    "examples/maintenance/README.md",
    "examples/readmission/README.md",
)
"""Pages of the site that stay beside the code."""
_LINK = re.compile(r"(?P<text>!?\[[^\]]*\])\((?P<target>[^)#:\s]+)(?P<anchor>#[^)]*)?\)")
_ROOT = Path(__file__).parents[2]
_FENCED = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages that lie outside of docs/."""
    for path in OUTSIDE:
        files.append(File.generated(config, path, abs_src_path=str(_ROOT / path)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Point links at the site's pages. A link to another file of the checkout becomes plain text."""
    uri = page.file.src_uri
    return "".join(
        part if part.startswith("```") else _LINK.sub(lambda link: _rewrite(link, uri), part)
        for part in _FENCED.split(markdown)
    )


def _rewrite(link: re.Match[str], uri: str) -> str:
    place = uri if uri in OUTSIDE else f"docs/{uri}"
    target = posixpath.normpath(posixpath.join(posixpath.dirname(place), link["target"]))
    if target.startswith("docs/"):
        target = target.removeprefix("docs/")
    elif target not in OUTSIDE and Path(_ROOT, target).exists():  # MkDocs warns about all others
        return link["text"].strip("[]")
    return f"{link['text']}({posixpath.relpath(target, posixpath.dirname(uri) or '.')}{link['anchor'] or ''})"
