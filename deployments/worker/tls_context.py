"""Let Prefect's clients of a process share their TLS context.

Prefect makes a dozen clients in a flow run. Each reads all certificates of the machine, 14 ms, even for an address that
begins with http:.
"""

import ssl
from functools import cache
from types import ModuleType

from prefect.client import orchestration


def share_tls_contexts() -> None:
    """Make each context that Prefect's clients ask for once in this process."""
    names = vars(orchestration)
    if names["ssl"] is ssl:
        shared = ModuleType("ssl")
        shared.__dict__.update(vars(ssl), create_default_context=cache(ssl.create_default_context))
        names["ssl"] = shared
