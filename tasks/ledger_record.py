"""What the Prefect server knows of a deployed pipeline's ledger, so that a run on any machine notices a lost one.

It is a variable of the server, one a pipeline. Runs that no deployment started have only the record in the home folder.
"""

import re
from contextlib import suppress

from prefect.exceptions import ObjectAlreadyExists
from prefect.variables import Variable

from penstock.ledger.known_ledgers import KnownLedger, parse_known
from penstock.spec.pipeline import Pipeline
from penstock.tasks.deployed import own_deployment_id
from penstock.tasks.process_resources import scoring_steps


def open_ledger(pipeline: Pipeline) -> None:
    """Make the ledger where the project has never had one, and record it on the server of a deployed pipeline.

    Raises:
        LedgerLost: the project has had a ledger, and this is none or another one.
    """
    deployed = own_deployment_id() is not None
    recorded = read_record(pipeline.name) if deployed else None
    known = scoring_steps(pipeline).open_ledger([] if recorded is None else [recorded])
    if deployed and recorded is None:
        write_record(pipeline.name, known)


def read_record(pipeline: str) -> KnownLedger | None:
    """Return what the server knows of the pipeline's ledger."""
    return parse_known(Variable.get(variable_name(pipeline)))


def write_record(pipeline: str, known: KnownLedger) -> None:
    """Record the pipeline's ledger on the server, in place of what it knew."""
    with suppress(ObjectAlreadyExists):  # runs that begin at once write the same
        Variable.set(variable_name(pipeline), known.to_json(), tags=["penstock"], overwrite=True)


def move_record(old: str, new: str) -> None:
    """Give a renamed pipeline what the server knows of its ledger."""
    known = read_record(old)
    if known is not None:
        write_record(new, known)
        Variable.unset(variable_name(old))


def variable_name(pipeline: str) -> str:
    """Return the name of the pipeline's variable. Prefect takes small letters, digits and underscores."""
    return f"penstock_ledger_{re.sub('[^a-z0-9]', '_', pipeline.lower())}"
