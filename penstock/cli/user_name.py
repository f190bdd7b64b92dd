"""Who runs a command, for the records of pauses and releases."""

import getpass
import os


def find_user_name() -> str:
    """Return the user's name. A container may run under an id that has no name: then it is `uid 1234`."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
