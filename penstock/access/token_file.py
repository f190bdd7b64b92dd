"""The file of tokens: one line a token, with name, role, time and hash."""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from threading import Lock

from penstock.access.tokens import (
    DIGEST,
    NAME,
    ROLES,
    Identity,
    Role,
    StoredToken,
    digest_token,
    make_token,
    match_token,
)
from penstock.errors import TokenFileUnusable
from penstock.interval import as_utc, iso, parse_moment

MAX_BYTES = 1_000_000
_HEAD = "# Tokens of Penstock's server: name, role, time, SHA-256 of the token. Written by `penstock tokens`.\n"


def read_tokens(file: Path) -> tuple[StoredToken, ...]:
    """Read a token file.

    Raises:
        TokenFileUnusable: it is missing, others may write to it, or a line cannot be read.
    """
    try:
        with file.open("rb") as opened:
            if stat.S_IMODE(os.fstat(opened.fileno()).st_mode) & (stat.S_IWGRP | stat.S_IWOTH):
                raise TokenFileUnusable(str(file), 0, "other users may write to it", f"Run `chmod 600 {file}`.")
            content = opened.read(MAX_BYTES + 1)
    except OSError as error:
        remedy = "Make it with `penstock tokens add NAME --role reader`, or name another one with --token-file."
        raise TokenFileUnusable(str(file), 0, error.strerror or str(error), remedy) from None
    return _parse(file, content)


def _parse(file: Path, content: bytes) -> tuple[StoredToken, ...]:
    if len(content) > MAX_BYTES:
        raise TokenFileUnusable(str(file), 0, f"it is larger than {MAX_BYTES:,} bytes", "Remove what is no token.")
    tokens: dict[str, StoredToken] = {}
    for number, line in enumerate(content.decode("utf-8", "replace").split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        token = _parse_line(file, number, line)
        if token.name in tokens:
            raise TokenFileUnusable(
                str(file), number, f"the name {token.name} stands twice", "Remove one of the lines."
            )
        tokens[token.name] = token
    return tuple(tokens.values())


def _parse_line(file: Path, number: int, line: str) -> StoredToken:
    remedy = "Remove the line, and add the token again with `penstock tokens add`."
    parts = line.split()
    if len(parts) != 4:
        what = "it has not the four parts name, role, time and hash"
        raise TokenFileUnusable(str(file), number, what, remedy)
    name, role, added, digest = parts
    if not NAME.fullmatch(name):
        raise TokenFileUnusable(str(file), number, "its first part cannot be a name", remedy)
    if role not in ROLES:
        raise TokenFileUnusable(str(file), number, f"the role is none of {', '.join(ROLES)}", remedy)
    if not DIGEST.fullmatch(digest):
        raise TokenFileUnusable(str(file), number, "its last part is no SHA-256", remedy)
    try:
        return StoredToken(name, role, as_utc(parse_moment(added)), digest)
    except ValueError:
        raise TokenFileUnusable(str(file), number, "its third part is no time", remedy) from None


def add_token(file: Path, name: str, role: Role, now: datetime) -> str:
    """Make a token, store its hash, and return the token. The file is made with mode 0600 if it is missing.

    Raises:
        TokenFileUnusable: the file cannot be read or written, or has a token of this name.
    """
    if not NAME.fullmatch(name):
        what = f"`{name}` cannot be the name of a token"
        raise TokenFileUnusable(str(file), 0, what, "Use at most 64 letters, digits and any of . _ @ + -")
    token = make_token()
    with _changing(file) as stored:
        if any(each.name == name for each in stored):
            remedy = f"Remove it first with `penstock tokens remove {name}`, or use another name."
            raise TokenFileUnusable(str(file), 0, f"it has a token of the name {name} already", remedy)
        stored.append(StoredToken(name, role, now, digest_token(token)))
    return token


def remove_token(file: Path, name: str) -> None:
    """Remove a token. A server that reads the file refuses it from its next request on.

    Raises:
        TokenFileUnusable: the file cannot be read or written, or has no token of this name.
    """
    with _changing(file) as stored:
        left = [each for each in stored if each.name != name]
        if len(left) == len(stored):
            raise TokenFileUnusable(
                str(file), 0, f"it has no token of the name {name}", "`penstock tokens list` shows them."
            )
        stored[:] = left


@contextmanager
def _changing(file: Path) -> Iterator[list[StoredToken]]:
    """Lock the folder, yield the tokens to change, and put a new file in the place of the old one."""
    try:
        folder = os.open(file.parent, os.O_RDONLY)
    except OSError as error:
        remedy = "Name a file in a folder that exists."
        raise TokenFileUnusable(str(file), 0, f"its folder cannot be opened: {error.strerror}", remedy) from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        stored = list(read_tokens(file)) if file.exists() else []
        yield stored
        _write(file, stored)
    finally:
        os.close(folder)


def _write(file: Path, stored: list[StoredToken]) -> None:
    lines = [f"{each.name} {each.role} {iso(each.added_at)} {each.digest}\n" for each in stored]
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        unfinished.unlink(missing_ok=True)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(_HEAD + "".join(lines))
            opened.flush()
            os.fsync(opened.fileno())
        os.replace(unfinished, file)
    except OSError as error:
        what = f"it cannot be written: {error.strerror}"
        raise TokenFileUnusable(str(file), 0, what, "Let this user write to its folder.") from None
    finally:
        unfinished.unlink(missing_ok=True)


@dataclass
class TokenFile:
    """The tokens of a file, read again when the file changes. Threads may share it."""

    file: Path
    _state: tuple[int, ...] = field(default=(), init=False, repr=False)
    _tokens: tuple[StoredToken, ...] = field(default=(), init=False, repr=False)
    _lock: Lock = field(default_factory=Lock, init=False, repr=False)

    def tokens(self) -> tuple[StoredToken, ...]:
        """Return the tokens of the file as it is now.

        Raises:
            TokenFileUnusable: it cannot be read. Then no token is valid, also none that was before.
        """
        with self._lock:
            state = self._look()
            if not state or state != self._state:
                self._tokens, self._state = (), ()
                self._tokens = read_tokens(self.file)
                self._state = state
            return self._tokens

    def _look(self) -> tuple[int, ...]:
        try:
            seen = self.file.stat()
        except OSError:
            return ()
        return seen.st_ino, seen.st_dev, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_mode

    def find(self, token: str) -> Identity | None:
        """Return whose token it is, or None if it is nobody's.

        Raises:
            TokenFileUnusable: the file cannot be read.
        """
        return match_token(token, self.tokens())
