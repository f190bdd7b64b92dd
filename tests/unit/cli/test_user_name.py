"""The name of the user who runs a command."""

import os
import pwd

import pytest

from penstock.cli.user_name import find_user_name


def test_a_user_without_a_name_is_known_by_the_id(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_none(_: int) -> None:
        raise KeyError("no such user")

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", find_none)

    assert find_user_name() == f"uid {os.getuid()}"
