"""Tokens in a file: made once, kept as hashes, read again when the file changes."""

import os
import re
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from penstock.access.token_file import TokenFile, add_token, read_tokens, remove_token
from penstock.access.tokens import Identity
from penstock.cli.app import app
from penstock.errors import TokenFileUnusable

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


def test_a_token_is_found_by_its_text_and_is_not_in_the_file(file: Path) -> None:
    token = add_token(file, "ana", "operator", NOW)

    assert TokenFile(file).find(token) == Identity("ana", "operator")
    assert token not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [
        TokenFile(file).find(wrong)
        for wrong in ("", token[:-1], token + "x", "pst_\udcff".encode("utf-8", "replace").decode())
    ] == [None] * 4


@pytest.mark.parametrize(
    ("role", "may"), [("reader", (True, False, False)), ("operator", (True, True, False)), ("approver", (True,) * 3)]
)
def test_each_role_includes_those_before_it(role: str, may: tuple[bool, ...]) -> None:
    identity = Identity("ana", role)  # type: ignore[arg-type]

    assert (identity.may("reader"), identity.may("operator"), identity.may("approver")) == may


def test_rotation_needs_no_restart(file: Path) -> None:
    first = add_token(file, "crm", "reader", NOW)
    tokens = TokenFile(file)
    assert tokens.find(first) is not None

    second = add_token(file, "crm-2", "reader", NOW)
    both = (tokens.find(first), tokens.find(second))
    remove_token(file, "crm")

    assert both == (Identity("crm", "reader"), Identity("crm-2", "reader"))
    assert (tokens.find(first), tokens.find(second)) == (None, Identity("crm-2", "reader"))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda file: file.write_text(file.read_text() + "half a line\n"), "line 3: it has not the four parts"),
        (lambda file: file.write_text(file.read_text().replace("reader", "admin")), "the role is none of reader,"),
        (lambda file: file.write_text(file.read_text() + file.read_text()), "the name ana stands twice"),
        (lambda file: file.write_text(re.sub("[0-9a-f]{64}", "0", file.read_text())), "is no SHA-256"),
        (lambda file: file.write_text(file.read_text().replace("2026-", "soon-")), "is no time"),
        (lambda file: file.write_bytes(b"\xff\xfe a b c d\n"), "line 1"),
        (lambda file: file.chmod(0o622), "other users may write to it. Run `chmod 600"),
        (lambda file: file.unlink(), "No such file or directory"),
    ],
)
def test_while_the_file_is_wrong_no_token_is_valid(file: Path, spoil: Callable[[Path], None], said: str) -> None:
    token, tokens = add_token(file, "ana", "reader", NOW), TokenFile(file)
    assert tokens.find(token) is not None

    spoil(file)

    for _ in range(2):
        with pytest.raises(TokenFileUnusable, match=re.escape(said)):
            tokens.find(token)


def test_a_mended_file_is_taken_again(file: Path) -> None:
    token, tokens = add_token(file, "ana", "reader", NOW), TokenFile(file)
    content = file.read_text()
    file.write_text("broken\n")
    with pytest.raises(TokenFileUnusable):
        tokens.find(token)

    file.write_text(content)

    assert tokens.find(token) == Identity("ana", "reader")


def test_tokens_added_at_once_are_all_kept(file: Path) -> None:
    names = [f"user-{number}" for number in range(20)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: add_token(file, name, "reader", NOW), names))

    assert sorted(each.name for each in read_tokens(file)) == sorted(names)
    assert os.listdir(file.parent) == ["tokens"]


def test_the_commands_print_a_token_once(file: Path) -> None:
    run = CliRunner()
    added = run.invoke(app, ["tokens", "add", "ana", "--role", "approver", "--file", str(file)])
    listed = run.invoke(app, ["tokens", "list", "--file", str(file)])
    twice = run.invoke(app, ["tokens", "add", "ana", "--role", "reader", "--file", str(file)])
    wrong = run.invoke(app, ["tokens", "add", "ben", "--role", "king", "--file", str(file)])
    removed = run.invoke(app, ["tokens", "remove", "ana", "--file", str(file), "--yes"])
    again = run.invoke(app, ["tokens", "remove", "ana", "--file", str(file), "--yes"])

    token = added.stdout.strip()
    assert "ana is approver" in added.stderr
    assert token not in listed.stdout
    assert listed.stdout.splitlines()[-1].split()[:2] == ["ana", "approver"]
    assert (twice.exit_code, wrong.exit_code, removed.exit_code, again.exit_code) == (2, 2, 0, 2)
    assert "has a token of the name ana already" in twice.stderr
    assert "no role" in wrong.stderr
    assert read_tokens(file) == ()
