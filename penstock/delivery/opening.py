"""Open the targets of a pipeline, with their addresses and secrets from the connections that the spec names."""

from collections.abc import Callable

from penstock.database.connections import Database
from penstock.delivery.deliver import Courier, Delivered
from penstock.delivery.http import HttpTarget
from penstock.errors import AddressRefused, NoTarget, NotLive, SettingsError
from penstock.ledger.deliveries import Outbox, find_change, record_failure
from penstock.ledger.destinations import destination_name
from penstock.ledger.reader import RunRecord
from penstock.privacy.masking import MaskingPolicy
from penstock.spec.deliver import HttpDelivery
from penstock.spec.pipeline import Pipeline

SHORTEST_SECRET = 16


def deliver_to(
    database: Database,
    pipeline: Pipeline,
    target: str,
    read_value: Callable[[str], str],
    masking: MaskingPolicy,
    statement_seconds: int,
    run: RunRecord | None = None,
    *,
    again: bool = False,
) -> Delivered:
    """Deliver what is live to a target, as far as the target does not have it.

    Args:
        read_value: Returns the value of a named connection.
        run: Deliver the interval of this run and no other.
        again: Deliver all rows of the run, also those that the target has.

    Raises:
        NotLive: `again`, and the run is not the live one of its interval.
        NoTarget, TargetBusy, DeliveryTakenOver, SettingsError, AddressRefused: as `find_target`, `open_http` and
            `Courier.deliver`.
    """
    spec = find_target(pipeline, target)
    outbox = open_outbox(database, pipeline, spec.name)
    try:
        opened = open_http(spec, read_value)
    except (SettingsError, AddressRefused) as error:
        record_failure(database, outbox, str(error))
        raise
    courier = Courier(database, pipeline, outbox, spec, opened, masking, statement_seconds)
    if run is None:
        return courier.deliver()
    change = find_change(database, outbox, run.interval_key)
    if again and (change is None or change.run_id != run.run_id):
        raise NotLive(run.run_id, run.state)
    return Delivered(target, 0, 0, 0) if change is None else courier.deliver(change, again=again)


def find_target(pipeline: Pipeline, name: str) -> HttpDelivery:
    """Return a target of the spec.

    Raises:
        NoTarget: it has none of this name.
    """
    for target in pipeline.deliver:
        if target.name == name:
            return target
    raise NoTarget(pipeline.name, name, tuple(each.name for each in pipeline.deliver))


def open_outbox(database: Database, pipeline: Pipeline, target: str) -> Outbox:
    """Return the records of a target in the ledger."""
    with database.reading() as connection:
        return Outbox(pipeline.name, destination_name(connection, pipeline.destination), target)


def open_http(target: HttpDelivery, read_value: Callable[[str], str]) -> HttpTarget:
    """Open a receiver. Nothing is sent, and its name is not looked up.

    Args:
        read_value: Returns the value of a named connection.

    Raises:
        SettingsError: a connection is not set, its secret is too short, or its token cannot be sent.
        AddressRefused: the address is not one that rows may be sent to.
    """
    return HttpTarget(
        target.name,
        target.url if "://" in target.url else read_value(target.url).strip(),
        target.seconds,
        target.private_address,
        None if target.secret is None else _read_secret(target.secret, read_value),
        None if target.token is None else _read_token(target.token, read_value),
    )


def _read_token(name: str, read_value: Callable[[str], str]) -> str:
    token = read_value(name).strip()
    if not token or " " in token or not (token.isascii() and token.isprintable()):
        raise SettingsError(
            f"connection `{name}` is the token of a target, and is empty or has a character that a request cannot have",
            f"Set PENSTOCK_CONNECTIONS__{name.upper()} to the token alone.",
        )
    return token


def _read_secret(name: str, read_value: Callable[[str], str]) -> str:
    secret = read_value(name).strip()
    if len(secret) < SHORTEST_SECRET:
        raise SettingsError(
            f"connection `{name}` is the secret of a target, and is shorter than {SHORTEST_SECRET} characters",
            f"Set PENSTOCK_CONNECTIONS__{name.upper()} to a longer one.",
        )
    return secret
