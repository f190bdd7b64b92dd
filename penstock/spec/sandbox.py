"""A sandbox: a changed pipeline whose scores stand beside production, in a table and views of their own."""

import re

from penstock.errors import SandboxRefused
from penstock.spec.parts import MOST_TABLE, SANDBOX_TABLE
from penstock.spec.pipeline import Pipeline

MOST_NAME = 20
SANDBOX_PATTERN = rf"[a-z][a-z0-9]{{0,{MOST_NAME - 1}}}"
SANDBOX_EXAMPLE = f"up to {MOST_NAME} lower-case letters and digits, as in lowerlimit"


def as_sandbox(pipeline: Pipeline, name: str) -> Pipeline:
    """Return the pipeline whose runs are those of a sandbox. It has the pipeline's name.

    Its table is `<table>__sandbox_<name>`. Without a range it scores the newest interval alone. It has no challengers
    and no promotion, judges no drift, and delivers nothing.

    Raises:
        SandboxRefused: the name is not allowed, the name of the table becomes too long, or the pipeline is a sandbox's.
    """
    if not re.fullmatch(SANDBOX_PATTERN, name):
        plain = re.sub("[^a-z0-9]", "", name.casefold()).lstrip("0123456789")[:MOST_NAME]
        better = f" For example `{plain}`." if plain else ""
        raise SandboxRefused(name, "is no name of a sandbox", f"Take {SANDBOX_EXAMPLE}.{better}")
    if pipeline.is_sandbox:
        raise SandboxRefused(name, f"cannot be made of {pipeline.label}, which is a sandbox already", "Use the spec.")
    table = f"{pipeline.destination.table}{SANDBOX_TABLE}{name}"
    if len(table) > MOST_TABLE:
        longest = MOST_TABLE - len(table) + len(name)
        remedy = f"Take a name of at most {longest} characters." if longest > 0 else "Shorten `destination.table`."
        raise SandboxRefused(name, f"makes the name of its table too long: `{table}`", remedy)
    newest = pipeline.interval and pipeline.interval.model_copy(update={"catch_up": "latest"})
    own = {"interval": newest, "destination": pipeline.destination.model_copy(update={"table": table})}
    return pipeline.model_copy(update={**own, "challengers": (), "drift": None, "promotion": None, "deliver": ()})


def find_production(pipeline: Pipeline) -> Pipeline:
    """Return a sandbox's pipeline with the table that readers know."""
    table = pipeline.destination.table.partition(SANDBOX_TABLE)[0]
    return pipeline.model_copy(update={"destination": pipeline.destination.model_copy(update={"table": table})})
