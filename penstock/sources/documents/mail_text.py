"""The text of a mail: its subject and its body, without attachments."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from typing import cast

from penstock.sources.documents.html_text import html_text


def mail_text(data: bytes, decode: Callable[[bytes, str | None], str]) -> str:
    """Return subject and body. Of several forms of the body, the plain one is taken.

    Args:
        decode: decodes bytes by the encoding that the mail names, if it names one.
    """
    mail = message_from_bytes(data)
    body = _find_body(mail)
    text = "" if body is None else _part_text(body, decode)
    lines = (_subject(mail), text.replace("\r\n", "\n").strip())
    return "\n".join(line for line in lines if line)


def _subject(mail: Message) -> str:
    subject = mail["subject"] or ""
    with suppress(HeaderParseError, LookupError, ValueError):  # as it is written, if it cannot be decoded
        subject = make_header(decode_header(subject))
    return " ".join(str(subject).split())


def _find_body(mail: Message) -> Message | None:
    """Return the first plain text that is no attachment, or else the first HTML."""
    html = None
    for part in _parts(mail):
        if part.get_content_disposition() == "attachment":
            continue
        if part.get_content_type() == "text/plain":
            return part
        if part.get_content_type() == "text/html":
            html = html or part
    return html


def _parts(mail: Message) -> Iterator[Message]:
    """Yield the parts of a mail, and not those of a mail that is attached to it."""
    if not mail.is_multipart():
        yield mail
    elif mail.get_content_maintype() == "multipart":
        for part in cast(list[Message], mail.get_payload()):
            yield from _parts(part)


def _part_text(part: Message, decode: Callable[[bytes, str | None], str]) -> str:
    payload = part.get_payload(decode=True)
    text = decode(payload if isinstance(payload, bytes) else b"", part.get_content_charset())
    return html_text(text) if part.get_content_type() == "text/html" else text
