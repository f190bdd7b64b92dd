"""The text of a PDF file, read by pypdf."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from penstock.sources.documents.unreadable import UnreadableDocument


def pdf_version() -> str:
    """Return the version of pypdf, which texts depend on. Empty if it is not installed."""
    try:
        import pypdf
    except ModuleNotFoundError:
        return ""
    return str(pypdf.__version__)


def pdf_text(data: bytes, most: int) -> str | None:
    """Return the text of all pages. None if no page has any, as in a scan.

    Args:
        most: the most characters that are read.

    Raises:
        ModuleNotFoundError: pypdf is not installed.
        UnreadableDocument: the file is broken, needs a password, or has more text.
    """
    from pypdf import PasswordType, PdfReader
    from pypdf.errors import PyPdfError

    try:
        with _quiet():
            reader = PdfReader(io.BytesIO(data))
            if reader.is_encrypted and reader.decrypt("") == PasswordType.NOT_DECRYPTED:
                raise UnreadableDocument("is a PDF that needs a password")
            pages, length = [], 0
            for page in reader.pages:
                pages.append(page.extract_text().strip())
                length += len(pages[-1])
                if length > most:
                    raise UnreadableDocument(f"is a PDF with more than {most:,} characters of text")
    except UnreadableDocument:
        raise
    except (PyPdfError, *_BROKEN) as error:
        raise UnreadableDocument(f"is a PDF that cannot be read ({type(error).__name__})") from None
    text = "\n".join(page for page in pages if page)
    # Fonts without a table of characters give code units that no text has.
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode() or None


_BROKEN = (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError, OSError)
"""What pypdf raises for damaged files beside its own errors."""


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep pypdf's warnings out of the log, because they may quote the file."""
    logger = logging.getLogger("pypdf")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
