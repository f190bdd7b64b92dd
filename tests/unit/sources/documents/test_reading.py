"""The text of documents: plain, HTML, mails and PDF, and those that are refused."""

import bz2
import gzip
import io
import lzma
import zipfile
from email.message import EmailMessage
from pathlib import Path

import pytest
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from penstock.sources.documents import reading
from penstock.sources.documents.media_types import find_media_type
from penstock.sources.documents.pdf_text import pdf_text
from penstock.sources.documents.reading import read_text
from penstock.sources.documents.unreadable import UnreadableDocument


def read(data: bytes, name: str = "note.txt", encoding: str = "utf-8") -> str | None:
    return read_text(io.BytesIO(data), name, encoding)


def pdf(*pages: str, password: str | None = None) -> bytes:
    """Return a PDF whose pages have these texts. A page without a text is blank."""
    writer = PdfWriter()
    font = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type1"),
            NameObject("/BaseFont"): NameObject("/Helvetica"),
        }
    )
    for text in pages:
        page = writer.add_blank_page(300, 300)
        fonts = DictionaryObject({NameObject("/F1"): font})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        content = DecodedStreamObject()
        content.set_data(f"BT /F1 12 Tf 20 200 Td ({text}) Tj ET".encode() if text else b"")
        page[NameObject("/Contents")] = writer._add_object(content)
    if password is not None:
        writer.encrypt(password, algorithm="AES-256")
    made = io.BytesIO()
    writer.write(made)
    return made.getvalue()


def mail(plain: str = "", html: str = "", subject: str = "", attached: bytes = b"") -> bytes:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "ann@example.org", "bank@example.org", subject
    if plain:
        made.set_content(plain)
    if html:
        (made.add_alternative if plain else made.set_content)(html, subtype="html")
    if attached:
        made.add_attachment(attached, maintype="text", subtype="plain", filename="statement.txt")
    return made.as_bytes()


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        ("Grüße".encode(), "utf-8"),
        (b"\xef\xbb\xbf" + "Grüße".encode(), "utf-8"),
        ("Grüße".encode("utf-16"), "utf-8"),
        ("Grüße".encode("cp1252"), "cp1252"),
        ("Grüße".encode("utf-16"), "cp1252"),
        ("Grüße".encode("utf-16-le"), "utf-16-le"),
    ],
)
def test_a_byte_order_mark_wins_over_the_stated_encoding(data: bytes, encoding: str) -> None:
    assert read(data, encoding=encoding) == "Grüße"


def test_line_ends_are_lf_and_an_empty_file_is_an_empty_text() -> None:
    assert read(b"a\r\nb\rc\n") == "a\nb\nc\n"
    assert read(b"") == ""


def test_bytes_of_another_encoding_are_refused_with_their_place() -> None:
    with pytest.raises(UnreadableDocument) as refused:
        read("für".encode("cp1252"))
    assert refused.value.reason == "is not in the encoding utf-8: the byte 0xfc at 1"
    assert refused.value.text == "f\\xfcr"


@pytest.mark.parametrize(
    ("data", "name", "why"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0", "note.txt", "is image/png"),
        (b"PK\x03\x04....", "letter.docx", "wordprocessingml"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "letter.doc", "is application/msword"),
        (b"some\0bytes", "note.txt", "NUL"),
        (b"%PDF-1.7 and no more", "note.pdf", "is a PDF that cannot be read"),
        (gzip.compress(b"cut off" * 99, mtime=0)[:-9], "note.txt.gz", "cannot be unpacked"),
        (b"From: a@example.org\nContent-Type: text/plain; charset=klingon\n\nhi", "a.eml", "`klingon`"),
        (b"From: a@example.org\nContent-Type: text/plain; charset=utf-8\n\nf\xfcr", "a.eml", "0xfc"),
    ],
)
def test_what_is_no_readable_text_is_refused_and_the_reason_says_what_it_is(data: bytes, name: str, why: str) -> None:
    with pytest.raises(UnreadableDocument, match=why):
        read(data, name)


def test_html_is_the_text_that_a_browser_shows() -> None:
    page = """<!DOCTYPE html><html><head><title>Visit  &amp; plan</title><style>p {color: red}</style>
    <script>var a = "<p>not shown</p>";</script></head><body><!-- a remark --><h1>Day&nbsp;1</h1>
    <p>Patient <b>fe</b>ll.<br>Sepsis &#x3c; 2 &eacute;</p><table><tr><td>a</td><td>b</td></tr></table>
    <noscript>no</noscript><p>unclosed <div>end"""
    assert read(page.encode(), "v.html") == (
        "Visit & plan\nDay\u00a01\nPatient fell.\nSepsis < 2 é\na b\nunclosed\nend"
    )
    assert read(b"  <html><body>by its first bytes</body></html>", "visit") == "by its first bytes"


def test_the_charset_of_a_page_wins_over_the_stated_encoding() -> None:
    page = '<html><head><meta charset="iso-8859-1"></head><body>f\u00fcr</body></html>'
    assert read(page.encode("latin-1"), "v.html") == "für"


def test_a_mail_is_its_subject_and_its_plain_body_without_attachments() -> None:
    subject = "Beschwerde über Gebühren"
    data = mail("Please refund me.", "<p>Please <b>refund</b> me in HTML.</p>", subject, b"secret")
    assert read(data, "a.eml") == f"{subject}\nPlease refund me."
    assert read(mail(html="<p>Only &lt;HTML&gt;</p><script>x</script>"), "a.eml") == "Only <HTML>"
    assert read(b"Subject: =?utf-8?B?R3LDvMOfZQ==?=\nContent-Type: text/plain\n\nhi", "a.eml") == "Grüße\nhi"
    assert read(b"no header at all", "a.eml") == "no header at all"


def test_a_mail_that_is_attached_to_a_mail_is_no_part_of_it() -> None:
    outer, inner = EmailMessage(), EmailMessage()
    inner.set_content("the mail of a stranger")
    inner["Subject"] = "inner"
    outer["Subject"] = "outer"
    outer.make_mixed()
    outer.add_attachment(inner)
    assert read(outer.as_bytes(), "a.eml") == "outer"

    shown = EmailMessage()
    shown.set_content("<p>see below</p>", subtype="html")
    outer.attach(shown)
    assert read(outer.as_bytes(), "a.eml") == "outer\nsee below"


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (b"=?utf-8?q?Gr=C3=BC=C3=9Fe?= an =?iso-8859-1?q?K=F6ln?=", "Grüße an Köln"),
        (b"=?klingon?q?x?= y", "=?klingon?q?x?= y"),
        (b"a\r\n folded  one", "a folded one"),
        (b"", ""),
    ],
)
def test_a_subject_is_decoded(subject: bytes, expected: str) -> None:
    text = read(b"Subject: " + subject + b"\r\nContent-Type: text/plain\r\n\r\nbody", "a.eml")
    assert text == "\n".join(filter(None, [expected, "body"]))


def test_a_pdf_is_the_text_of_its_pages_and_one_of_pictures_has_none() -> None:
    assert read(pdf("Discharge note", "second page"), "scan") == "Discharge note\nsecond page"
    assert read(pdf(""), "scan.pdf") is None


def test_a_pdf_without_a_user_password_is_read_and_one_with_it_is_refused() -> None:
    assert read(pdf("open", password="")) == "open"
    with pytest.raises(UnreadableDocument, match="password"):
        read(pdf("closed", password="key"))


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_compressed_document_is_unpacked_and_has_the_kind_of_its_inner_name(pack: object) -> None:
    assert read(pack(b"<p>packed</p>"), "a.html.packed") == "packed"  # type: ignore[operator]


def test_a_document_that_unpacks_to_more_than_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_BYTES", 1 << 20)
    assert read(b"a" * (1 << 20)) is not None
    for data in (b"a" * ((1 << 20) + 1), gzip.compress(b"a" * (1 << 24))):
        with pytest.raises(UnreadableDocument, match="has more than 1 MiB"):
            read(data)
    with pytest.raises(UnreadableDocument, match="more than 4,000 characters of text"):
        pdf_text(_long_pdf(), 4_000)


def _long_pdf() -> bytes:
    """Return a small file with a long text: each page shows the same content."""
    writer = PdfWriter(io.BytesIO(pdf("word " * 20)))
    for _ in range(60):
        writer.add_page(writer.pages[0])
    made = io.BytesIO()
    writer.write(made)
    return made.getvalue()


def test_the_media_type_is_that_of_the_bytes_and_then_of_the_name(tmp_path: Path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("a.txt", "a")
    for data, name, kind in [
        (b"\xff\xd8\xff\xe0", "photo.txt", "image/jpeg"),
        (archive.getvalue(), "a.bin", "application/zip"),
        (archive.getvalue(), "A.DOCX", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        (b"%PDF-1.4", "x", "application/pdf"),
        (b"OggS is a word here", "x.txt", "text/plain"),
        (b"OggS\0\x02", "x.txt", "audio/ogg"),
        (b"a,b", "x.csv", "text/csv"),
        (b"plain", "x", "text/plain"),
        (b"\0\1\2", "x.txt", "application/octet-stream"),
        (b"", "x", "application/octet-stream"),
    ]:
        assert find_media_type(data, name) == kind
