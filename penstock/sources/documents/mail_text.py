"""The text of a mail: its subject and its body, without attachments."""

from collections.abc import Callable
from email import message_from_bytes
from email.errors import HeaderParseError
from email.message import Message
from email.policy import default

from penstock.sources.documents.html_text import html_text


def mail_text(data: bytes, decode: Callable[[bytes, str | None], str]) -> str:
    """Return subject and body. Of several forms of the body, the plain one is taken.

    Args:
        decode: decodes bytes by the encoding that the mail names, if it names one.
    """
    mail = message_from_bytes(data, policy=default)
    try:
        subject = str(mail["subject"] or "")
    except (HeaderParseError, IndexError, ValueError):  # a header that Python's parser cannot read
        subject = ""
    body = mail.get_body(("plain", "html"))
    text = "" if body is None else _part_text(body, decode)
    lines = (" ".join(subject.split()), text.replace("\r\n", "\n").strip())
    return "\n".join(line for line in lines if line)


def _part_text(part: Message, decode: Callable[[bytes, str | None], str]) -> str:
    payload = part.get_payload(decode=True)
    text = decode(payload if isinstance(payload, bytes) else b"", part.get_content_charset())
    return html_text(text) if part.get_content_type() == "text/html" else text
