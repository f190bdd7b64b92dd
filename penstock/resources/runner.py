"""The runner of partitions: `threads:n`, `processes:n`, `dask:<address>` or `ray:<address>`."""

import re
from dataclasses import dataclass
from typing import Literal, cast

RunnerKind = Literal["threads", "processes", "dask", "ray"]
SPELLINGS = "threads:n, processes:n, dask:tcp://host:8786, ray:auto, ray:local or ray:host:6379"
_LOCAL = re.compile(r"(threads|processes):([1-9]\d?)")
_CLUSTER = re.compile(r"(dask|ray):(\S+)")
_ADDRESSES = {
    "dask": re.compile(r"((tcp|tls|ws|wss|ucx)://)?[^\s/]+:\d+"),
    "ray": re.compile(r"auto|local|[^\s/]+:\d+"),
}


@dataclass(frozen=True)
class Runner:
    """The runner that PENSTOCK_RUNNER names."""

    kind: RunnerKind
    slots: int
    """Number of threads or processes. 0 for a cluster, which reports its own number."""
    address: str
    """Address of a cluster."""

    @property
    def is_cluster(self) -> bool:
        return self.kind in ("dask", "ray")

    def __str__(self) -> str:
        return f"{self.kind}:{self.address or self.slots}"


def parse_runner(text: str) -> Runner:
    """Read a runner's name.

    Raises:
        ValueError: the text is not a runner.
    """
    if local := _LOCAL.fullmatch(text):
        return Runner(cast("RunnerKind", local[1]), int(local[2]), "")
    cluster = _CLUSTER.fullmatch(text)
    if cluster is None or not _ADDRESSES[cluster[1]].fullmatch(cluster[2]):
        raise ValueError(f"`{text}` is not a runner; use {SPELLINGS}")
    return Runner(cast("RunnerKind", cluster[1]), 0, cluster[2])
