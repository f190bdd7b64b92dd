"""The text of an HTML page, without its markup, scripts and styles."""

import re
from html.parser import HTMLParser

_UNSHOWN = frozenset({"script", "style", "template", "noscript", "iframe", "object", "svg", "select", "textarea"})
_BLOCKS = re.compile(
    "address|article|aside|blockquote|body|br|caption|center|dd|details|div|dl|dt|fieldset|figcaption|figure|footer|"
    "form|h[1-6]|head|header|hr|html|legend|li|main|nav|ol|option|p|pre|section|summary|table|tbody|tfoot|thead|title|"
    "tr|ul"
)
"""Elements that begin and end a line."""
_CELLS = frozenset({"td", "th"})
_BLANKS = re.compile(r"[ \t\r\f\v\n]+")
_CHARSET = re.compile(rb"<meta[^>]{0,500}?charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.IGNORECASE)
_META_BYTES = 4_096


def find_charset(data: bytes) -> str | None:
    """Return the encoding that a `meta` element at the beginning names."""
    found = _CHARSET.search(data[:_META_BYTES])
    return found[1].decode("ascii", "replace") if found else None


def html_text(page: str) -> str:
    """Return the text of a page. Its title is the first line."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    lines = (_BLANKS.sub(" ", line).strip() for line in "".join(reader.parts).split("\0"))
    return "\n".join(line for line in lines if line)


class _Reader(HTMLParser):
    """Collects the text of a page. A NUL stands for each line end."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._unshown: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _UNSHOWN:
            self._unshown.append(tag)
        elif _BLOCKS.fullmatch(tag):
            self.parts.append("\0")
        elif tag in _CELLS:
            self.parts.append(" ")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if _BLOCKS.fullmatch(tag):
            self.parts.append("\0")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._unshown:  # with it end those in it that were not closed
            del self._unshown[self._unshown.index(tag) :]
        elif _BLOCKS.fullmatch(tag):
            self.parts.append("\0")
        elif tag in _CELLS:
            self.parts.append(" ")

    def handle_data(self, data: str) -> None:
        if not self._unshown:
            self.parts.append(data.replace("\0", "\ufffd"))
