"""The aliases of a model: the version that each names, and every move."""

import re
from datetime import datetime

from pydantic import Field, ValidationError

from penstock.errors import AliasMoved, ModelRefused
from penstock.models.manifest import MODEL_NAME
from penstock.models.store import ModelStore
from penstock.spec.parts import Part, UtcDatetime

ALIASES_FILE = "aliases.json"
_ALIASES_BYTES = 64 * 2**20


class AliasMove(Part):
    """One promotion."""

    alias: str
    version: str
    previous: str | None = None
    at: UtcDatetime
    by: str = ""
    """Who moved it, as the person typed it. Empty: no name was given."""
    note: str = ""
    evidence: str = ""
    """Digest of the evidence that the move rests on. Empty: the alias was moved by hand."""
    flow_run_id: str = ""
    """The flow run that moved it. Empty: the alias was moved by hand."""


class Aliases(Part):
    """The content of `aliases.json`: the aliases of one model."""

    aliases: dict[str, str] = Field(default_factory=dict)
    history: tuple[AliasMove, ...] = ()
    """Oldest first."""


def check_alias(model: str, alias: str) -> None:
    """Raise `ModelRefused` if the name cannot be an alias. Digits alone are a version."""
    if not re.fullmatch(MODEL_NAME, alias) or alias.isdigit():
        raise ModelRefused(
            model, f"`{alias}` is not an alias. Use letters, digits, `.`, `_` and `-`, not digits alone: `champion`."
        )


def read_aliases(store: ModelStore, model: str) -> Aliases:
    """Read a model's aliases. Without a file there are none."""
    try:
        return _parse(store, model, store.read(model, f"{model}/{ALIASES_FILE}", _ALIASES_BYTES))
    except FileNotFoundError:
        return Aliases()


def move_alias(
    store: ModelStore, model: str, alias: str, version: str, at: datetime, by: str = "", note: str = ""
) -> None:
    """Point an alias at a version and record the move. If it already points there, write nothing."""

    def move(content: bytes | None) -> bytes | None:
        known = Aliases() if content is None else _parse(store, model, content)
        previous = known.aliases.get(alias)
        if previous == version:
            return None
        moved = AliasMove(alias=alias, version=version, previous=previous, at=at, by=by, note=note)
        after = Aliases(aliases=known.aliases | {alias: version}, history=(*known.history, moved))
        return after.model_dump_json(indent=2).encode()

    store.update(model, f"{model}/{ALIASES_FILE}", _ALIASES_BYTES, move)


def move_promoted(store: ModelStore, model: str, move: AliasMove) -> None:
    """Point an alias at the version of a promotion, once for its evidence, and record the move.

    Nothing is written if the history has a move with this evidence already.

    Raises:
        AliasMoved: the alias does not name `move.previous` any more.
    """

    def change(content: bytes | None) -> bytes | None:
        known = Aliases() if content is None else _parse(store, model, content)
        if any(other.evidence == move.evidence for other in known.history):
            return None
        if (present := known.aliases.get(move.alias)) != move.previous:
            raise AliasMoved(model, move.alias, move.previous or "", present or "")
        after = Aliases(aliases=known.aliases | {move.alias: move.version}, history=(*known.history, move))
        return after.model_dump_json(indent=2).encode()

    store.update(model, f"{model}/{ALIASES_FILE}", _ALIASES_BYTES, change)


def _parse(store: ModelStore, model: str, content: bytes) -> Aliases:
    try:
        return Aliases.model_validate_json(content)
    except ValidationError as error:
        raise ModelRefused(
            model,
            f"{store.location}/{model}/{ALIASES_FILE} is damaged ({error.error_count()} problems). Restore it, or "
            "remove it and promote again.",
        ) from None
