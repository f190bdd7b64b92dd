"""Find the media type of a file: by its first bytes, and of what these leave open by its name.

The table is part of Penstock, because that of the operating system differs between machines.
"""

import re
from pathlib import PurePosixPath

HEAD_BYTES = 8_192
"""How much of a file its type is judged by."""
UNKNOWN, PLAIN, HTML, MAIL, PDF = (
    "application/octet-stream",
    "text/plain",
    "text/html",
    "message/rfc822",
    "application/pdf",
)
_ZIP, _OLE = "application/zip", "application/x-ole-storage"
_MAGIC = (
    (rb"%PDF-", PDF),
    (rb"\x89PNG\r\n\x1a\n", "image/png"),
    (rb"\xff\xd8\xff", "image/jpeg"),
    (rb"GIF8[79]a", "image/gif"),
    (rb"RIFF....WEBP", "image/webp"),
    (rb"RIFF....WAVE", "audio/wav"),
    (rb"II\*\x00|MM\x00\*", "image/tiff"),
    (rb".{128}DICM", "application/dicom"),
    (rb"....ftyp(?:heic|heix|mif1)", "image/heic"),
    (rb"....ftyp", "video/mp4"),
    (rb"ID3", "audio/mpeg"),
    (rb"OggS", "audio/ogg"),
    (rb"fLaC", "audio/flac"),
    (rb"PK(?:\x03\x04|\x05\x06)", _ZIP),
    (rb"\x1f\x8b\x08", "application/gzip"),
    (rb"BZh[1-9]1AY&SY", "application/x-bzip2"),
    (rb"\xfd7zXZ\x00", "application/x-xz"),
    (rb"\x28\xb5\x2f\xfd", "application/zstd"),
    (rb"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (rb"Rar!\x1a\x07", "application/vnd.rar"),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _OLE),
    (rb"\{\\rtf", "application/rtf"),
    (rb"PAR1", "application/vnd.apache.parquet"),
    (rb"SQLite format 3\x00", "application/vnd.sqlite3"),
)
_WORDS = ("image/gif", "audio/mpeg", "audio/ogg", "audio/flac", "application/vnd.apache.parquet", "video/mp4")
_PATTERNS = tuple((re.compile(magic, re.DOTALL), kind) for magic, kind in _MAGIC)
_IN_ZIP = {
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ".odt": "application/vnd.oasis.opendocument.text",
    ".epub": "application/epub+zip",
}
_IN_OLE = {".doc": "application/msword", ".xls": "application/vnd.ms-excel", ".msg": "application/vnd.ms-outlook"}
_TEXTS = {
    ".html": HTML,
    ".htm": HTML,
    ".xhtml": HTML,
    ".eml": MAIL,
    ".md": "text/markdown",
    ".markdown": "text/markdown",
    ".csv": "text/csv",
    ".tsv": "text/tab-separated-values",
    ".json": "application/json",
    ".xml": "application/xml",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}
_PAGE = re.compile(rb"\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html)[\s>]", re.IGNORECASE | re.DOTALL)
_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


def find_media_type(head: bytes, name: str) -> str:
    """Return the media type of a file that begins with these bytes."""
    suffix = PurePosixPath(name).suffix.lower()
    kind = next((kind for pattern, kind in _PATTERNS if pattern.match(head)), None)
    if kind in _WORDS and b"\x00" not in head:  # a text that begins with these letters
        kind = None
    if kind == _ZIP:
        return _IN_ZIP.get(suffix, _ZIP)
    if kind == _OLE:
        return _IN_OLE.get(suffix, _OLE)
    if kind is not None:
        return kind
    if not head or (b"\x00" in head and not head.startswith(_MARKS)):
        return UNKNOWN if head else _TEXTS.get(suffix, PLAIN if suffix == ".txt" else UNKNOWN)
    if suffix in _TEXTS:
        return _TEXTS[suffix]
    return HTML if _PAGE.match(head.removeprefix(_MARKS[0])) else PLAIN
