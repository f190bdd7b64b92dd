"""Read the text of one document: plain text, HTML, a mail or a PDF."""

from typing import BinaryIO

from penstock.sources.documents.html_text import find_charset, html_text
from penstock.sources.documents.mail_text import mail_text
from penstock.sources.documents.media_types import HEAD_BYTES, HTML, MAIL, PDF, UNKNOWN, find_media_type
from penstock.sources.documents.pdf_text import pdf_text
from penstock.sources.documents.unreadable import UnreadableDocument
from penstock.sources.text.decoding import READ_ERRORS, decompress_stream, find_compression, find_encoding
from penstock.sources.text.records import MOST_TEXT

MOST_BYTES = 64 << 20
"""Size of the largest document, unpacked. A document is in memory as a whole."""
_TEXTS = ("application/json", "application/xml", "application/yaml")


def read_text(file: BinaryIO, name: str, encoding: str) -> str | None:
    """Return the text of a document. None if it has pages and no text, as a scanned PDF.

    Args:
        name: the file's name. It decides between the kinds of text.
        encoding: that of texts that do not name theirs.

    Raises:
        UnreadableDocument: it is too large, of another kind, broken, or not in the encoding.
        ModuleNotFoundError: it is a PDF, and pypdf is not installed.
    """
    data, name = _read_bytes(file, name)
    kind = find_media_type(data[:HEAD_BYTES], name)
    if kind == PDF:
        return pdf_text(data, MOST_BYTES)
    if kind == MAIL:
        return _checked(mail_text(data, lambda part, charset: _decode(part, charset or encoding)))
    if kind == HTML:
        return _checked(html_text(_decode(data, find_charset(data) or encoding)))
    if data and not kind.startswith("text/") and kind not in (*_TEXTS, UNKNOWN):
        raise UnreadableDocument(f"is {kind}, and text is read from plain text, HTML, mails (.eml) and PDF")
    return _checked(_decode(data, encoding))


def _read_bytes(file: BinaryIO, name: str) -> tuple[bytes, str]:
    """Return the bytes of a document, unpacked, and its name without the suffix of the compression."""
    kind = find_compression(file)
    kind = None if kind == "zip" else kind  # many formats are zip files, such as those of offices
    data = file.read(MOST_BYTES + 1) if kind is None else _unpack(file, kind)
    if len(data) > MOST_BYTES:
        raise UnreadableDocument(f"has more than {MOST_BYTES >> 20} MiB, and a document is read as a whole")
    return data, name.rsplit(".", 1)[0] if kind else name


def _unpack(file: BinaryIO, kind: str) -> bytes:
    try:
        with decompress_stream(file, kind) as unpacked:
            return unpacked.read(MOST_BYTES + 1)
    except READ_ERRORS as error:
        raise UnreadableDocument(f"cannot be unpacked ({type(error).__name__})") from None


def _decode(data: bytes, encoding: str) -> str:
    encoding = find_encoding(data[:4], encoding)
    try:
        return data.decode(encoding)
    except LookupError:
        raise UnreadableDocument(f"names the encoding `{encoding[:40]}`, which Python does not know") from None
    except UnicodeDecodeError as error:
        shown = data[:MOST_TEXT].decode(encoding, "backslashreplace")
        place = f"the byte 0x{data[error.start]:02x} at {error.start:,}"
        raise UnreadableDocument(f"is not in the encoding {encoding}: {place}", shown.replace("\0", "\\x00")) from None
    except UnicodeError:
        raise UnreadableDocument(f"is not in the encoding {encoding}") from None


def _checked(text: str) -> str:
    r"""Return a text with LF as its line end. One with a NUL is no text."""
    if "\0" in text:
        raise UnreadableDocument("has a NUL character, so it is no text in this encoding")
    return text.replace("\r\n", "\n").replace("\r", "\n")
