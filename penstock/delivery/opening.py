"""Open the targets of a pipeline, with their addresses and secrets from the connections that the spec names."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec

from penstock.database.connections import Database, open_url
from penstock.delivery.deliver import Courier, Delivered
from penstock.delivery.delta import DeltaTarget
from penstock.delivery.files import FileTarget
from penstock.delivery.folders import open_folder
from penstock.delivery.http import HttpTarget
from penstock.delivery.merge import MergeTarget
from penstock.delivery.target import Target
from penstock.errors import AddressRefused, NoTarget, NotLive, PenstockError, SettingsError, TargetMoved
from penstock.ledger.delivery_targets import keep_place, record_failure
from penstock.ledger.destinations import destination_name
from penstock.ledger.known_ledgers import identify_ledger
from penstock.ledger.outbox import Outbox, find_change
from penstock.ledger.reader import RunRecord
from penstock.object_stores import ENVIRONMENT, StoreAccess, parse_access
from penstock.privacy.masking import MaskingPolicy, make_masking
from penstock.settings import Settings
from penstock.spec.deliver import AnyTarget, DeltaDelivery, FileDelivery, HttpDelivery, MergeDelivery, PlacedDelivery
from penstock.spec.pipeline import Pipeline

SHORTEST_SECRET = 16


@dataclass(frozen=True)
class DeliveryNote:
    """What to say about one target after its deliveries."""

    text: str
    is_complete: bool
    """Whether the target has all that is live."""


def deliver_live(
    database: Database, pipeline: Pipeline, read_value: Callable[[str], str], settings: Settings
) -> Iterator[DeliveryNote]:
    """Deliver what is live to all targets, and say how it went. One that fails is left to the next run.

    Args:
        read_value: Returns the value of a named connection.
    """
    for found in deliver_to_each(database, pipeline, read_value, settings):
        if isinstance(found, str) or not found.is_complete:
            text = found if isinstance(found, str) else found.describe()
            yield DeliveryNote(f"{text}; the next run tries again", is_complete=False)
        elif found.intervals:
            yield DeliveryNote(found.describe(), is_complete=True)


def deliver_to_each(
    database: Database,
    pipeline: Pipeline,
    read_value: Callable[[str], str],
    settings: Settings,
    target: str | None = None,
    run: RunRecord | None = None,
    *,
    again: bool = False,
) -> Iterator[Delivered | str]:
    """Deliver to the targets of a pipeline, one after another. Yield what was done, or why nothing was.

    Args:
        read_value: Returns the value of a named connection.
        target: Only this one.
        run: Only the interval of this run.
        again: All rows of the run.

    Raises:
        NoTarget: the spec has no such target.
        NotLive: `again`, and the run is not live.
    """
    given = (read_value, make_masking(pipeline, settings), settings.statement_seconds)
    for name in [target] if target else [each.name for each in pipeline.deliver]:
        try:
            yield deliver_to(database, pipeline, name, *given, run, again=again)
        except (NoTarget, NotLive):
            raise
        except PenstockError as error:
            yield f"`{name}`: {error}"


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
        NoTarget, TargetMoved, TargetBusy, DeliveryTakenOver, SettingsError, AddressRefused: as `find_target`,
            `keep_place`, `open_target` and `Courier.deliver`.
    """
    spec = find_target(pipeline, target)
    outbox = open_outbox(database, pipeline, spec.name)
    try:
        keep_place(database, outbox, spec.place_digest)
        opened = open_target(spec, read_value, statement_seconds)
    except (SettingsError, AddressRefused, TargetMoved) as error:
        record_failure(database, outbox, str(error))
        raise
    courier = Courier(database, pipeline, outbox, spec, opened, masking, statement_seconds)
    if run is None:
        return courier.deliver()
    change = find_change(database, outbox, run.interval_key)
    if again and (change is None or change.run_id != run.run_id):
        raise NotLive(run.run_id, run.state)
    return Delivered(target, 0, 0, 0) if change is None else courier.deliver(change, again=again)


def find_target(pipeline: Pipeline, name: str) -> AnyTarget:
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
    ledger = identify_ledger(database)
    with database.reading() as connection:
        name = destination_name(connection, pipeline.destination)
    return Outbox(pipeline.name, name, target, "" if ledger is None else ledger.made_at)


def open_target(target: AnyTarget, read_value: Callable[[str], str], statement_seconds: int) -> Target:
    """Open a target of any kind. Nothing is sent.

    Args:
        read_value: Returns the value of a named connection.

    Raises:
        SettingsError, AddressRefused: as the function of its kind.
    """
    if isinstance(target, PlacedDelivery):
        return open_placed(target, read_value)
    if isinstance(target, MergeDelivery):
        return open_merge(target, read_value, statement_seconds)
    return open_http(target, read_value)


def open_placed(target: FileDelivery | DeltaDelivery, read_value: Callable[[str], str]) -> FileTarget | DeltaTarget:
    """Open a target in a folder or an object store. Nothing is read or written.

    Raises:
        SettingsError: as `read_access` and `open_delta`.
    """
    access = read_access(target, read_value)
    if isinstance(target, DeltaDelivery):
        return open_delta(target, access)
    return FileTarget(target.name, target.kind, target.template, open_folder(target.template.root, access))


def read_access(target: PlacedDelivery, read_value: Callable[[str], str]) -> StoreAccess:
    """Return the options that the object store of a target is opened with.

    Raises:
        SettingsError: the target's connection does not have such options.
    """
    return ENVIRONMENT if target.connection is None else parse_access(target.connection, read_value(target.connection))


def open_delta(target: DeltaDelivery, access: StoreAccess) -> DeltaTarget:
    """Open a Delta table. Nothing is read or written.

    Raises:
        SettingsError: the library is not installed.
    """
    if find_spec("deltalake") is None:
        what = f"`{target.name}` is a Delta table, and the library `deltalake` is not installed"
        raise SettingsError(what, "Install Penstock's extra `delta`.")
    return DeltaTarget(target.name, target.place, open_folder(target.place, access), access)


def open_merge(target: MergeDelivery, read_value: Callable[[str], str], statement_seconds: int) -> MergeTarget:
    """Open a table that is merged into. No connection is made.

    Args:
        read_value: Returns the value of a named connection.

    Raises:
        SettingsError: the connection is not set, or is a database whose tables Penstock does not change.
    """
    database = open_url(target.connection, read_value(target.connection), statement_seconds)
    if not database.sql.takes_merges:
        raise SettingsError(
            f"connection `{database.name}` is {database.sql.title}, into which `{target.name}` cannot be merged",
            "Merge into a table of Postgres, SQLite or DuckDB.",
        )
    return MergeTarget(target, database, statement_seconds)


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
