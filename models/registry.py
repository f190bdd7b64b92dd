"""The model store: versions, each a model file and its manifest, and their aliases.

Layout: `<store>/<name>/<version>/model.ubj|model.json` and `manifest.json`; `<store>/<name>/aliases.json`. A version is
written once and never changes. The store is a folder, or a URL of an object store.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import pyarrow as pa
from pydantic import ValidationError

from penstock.errors import ModelNotFound, ModelRefused
from penstock.models.aliases import Aliases, AliasMove, check_alias, move_alias, move_promoted, read_aliases
from penstock.models.expected import Expected
from penstock.models.feature_names import GivenNames
from penstock.models.manifest import MANIFEST_FILE, MODEL_NAME, VERSION, Link, Manifest
from penstock.models.store import ModelStore, open_model_store
from penstock.object_stores import ENVIRONMENT, StoreAccess, is_remote, parse_access
from penstock.run_types import ModelPin
from penstock.settings import Device, Settings
from penstock.spec.steps import ModelRef, parse_model

if TYPE_CHECKING:
    from penstock.models.booster import ModelVersion  # imports XGBoost: inside functions only

STORE_CONNECTION = "model_store"
"""The connection with the options of an object store, if they are not in the environment."""
MANIFEST_BYTES = 64 * 2**20
MODEL_BYTES = 8 * 2**30
_KEPT_LOADED = 8
_loading = Lock()


@dataclass(frozen=True)
class Registry:
    """A model store in a folder."""

    folder: Path | str
    """A folder, or the URL of one in an object store: `s3://bucket/models`."""
    device: Device = "cpu"
    """The device that its versions predict on."""
    access: StoreAccess = ENVIRONMENT
    """The credentials for an object store."""

    @cached_property
    def store(self) -> ModelStore:
        """The files of the store."""
        return open_model_store(str(self.folder), self.access)

    def names(self) -> tuple[str, ...]:
        """Return the models that have a version, sorted."""
        found = {name for name, version in self.store.versions() if _is_name(name) and re.fullmatch(VERSION, version)}
        return tuple(sorted(found))

    def versions(self, name: str) -> tuple[str, ...]:
        """Return the versions of a model in numeric order. None if there is no such model."""
        if not _is_name(name):
            return ()
        numbers = [version for _, version in self.store.versions(name) if re.fullmatch(VERSION, version)]
        return tuple(sorted(numbers, key=int))

    def aliases(self, name: str) -> dict[str, str]:
        """Return the version of each alias of a model."""
        return dict(self._read_aliases(name).aliases)

    def alias_history(self, name: str) -> tuple[AliasMove, ...]:
        """Return every promotion, oldest first."""
        return self._read_aliases(name).history

    def manifest(self, name: str, version: str) -> Manifest:
        """Read the manifest of a version.

        Raises:
            ModelNotFound: there is no such version.
            ModelRefused: the manifest is damaged, or belongs to another version.
        """
        label = f"{name}/{version}"
        if not _is_name(name) or not re.fullmatch(VERSION, version):
            raise self._not_found(name, version)
        try:
            content = self.store.read(label, f"{label}/{MANIFEST_FILE}", MANIFEST_BYTES)
        except (FileNotFoundError, NotADirectoryError):
            raise self._not_found(name, version) from None
        try:
            manifest = Manifest.model_validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ModelRefused(
                label, f"its manifest is damaged: `{where}`: {first['msg']}. Register the model file again."
            ) from None
        if manifest.label != label:
            raise ModelRefused(label, f"its manifest belongs to {manifest.label}. Register the model file again.")
        return manifest

    def resolve(self, ref: ModelRef | str) -> ModelPin:
        """Pin the version that an alias or a version number names now.

        Args:
            ref: Model by alias or version; as text `card-risk@champion` or `card-risk@7`.

        Raises:
            SettingsError: the text is neither name@alias nor name@version.
            ModelNotFound: there is no such alias or version; the message lists those that exist.
        """
        ref = parse_model(ref) if isinstance(ref, str) else ref
        known = read_aliases(self.store, ref.name).aliases if _is_name(ref.name) else {}
        manifest = self.manifest(ref.name, known.get(ref.selector, ref.selector))
        return ModelPin(manifest.name, manifest.version, manifest.sha256)

    def load(self, pin: ModelPin) -> "ModelVersion":
        """Open and verify the pinned version. The last few stay in memory, because every partition loads one.

        Raises:
            ModelNotFound: the version is not in the store.
            ModelRefused: digest, file format, XGBoost version or golden rows differ from the registration.
        """
        with _loading:
            folder = self.folder if is_remote(str(self.folder)) else Path(self.folder).resolve()
            return _load_verified(Registry(folder, self.device, self.access), pin)

    def register(
        self,
        name: str,
        file: Path,
        reference: pa.Table,
        alias: str | None = None,
        *,
        categories: Mapping[str, Sequence[str]] | None = None,
        metrics: Mapping[str, float] | None = None,
        trained_from: datetime | None = None,
        trained_until: datetime | None = None,
        classes: Sequence[str] = (),
        group: Sequence[str] = (),
        missing: float | None = None,
        base_margin: Sequence[str] = (),
        link: Link | None = None,
        iterations: int | None = None,
        expected: Expected | None = None,
        max_unscorable: float = 0.0,
        features: GivenNames = (),
        by: str = "",
        now: datetime | None = None,
    ) -> Manifest:
        """Register a model file as the next version, and move `alias` to it if given.

        Args:
            name: the model; created if new.
            file: native XGBoost file, UBJSON or JSON.
            reference: rows that the model can score, typically its training rows; other columns are ignored.
            alias: alias to promote.
            categories: by category feature, in the order of their codes; needed if the file does not have them.
            metrics: what the training measured.
            trained_from: start of the event times of the training rows.
            trained_until: end of them.
            classes: labels of a multi-class model, in the order of its class numbers.
            group: columns that group the rows of a ranking model.
            missing: value of a feature that means missing, as the training code gave it to XGBoost.
            base_margin: column of each row's base margin; for a model with several outputs one for each.
            link: function that makes outputs of raw margins; needed after training with a custom objective.
            iterations: boosting rounds to score with, instead of those up to the best one.
            expected: outputs of the training code on the reference rows: the column that has them, one for each
                output, or a table with a row for each reference row. They must agree within 1e-6.
            max_unscorable: share of the reference rows that the model need not be able to score.
            features: names for a file without feature names, in the order of the training columns, or a file of
                them: one name a line, or an `.fmap`. By default they are the columns of the reference rows, in their
                order, if `expected` verifies it.
            by: who registers it, for the history of the alias.
            now: time of the registration.

        Raises:
            ModelRefused: the name, the alias, the file or an argument is not valid; it does not score as expected; or
                too many reference rows cannot be scored.
            ModelMismatch: the reference rows lack a column, or none of them can be scored.
        """
        from penstock.models.registration import Candidate, draft_manifest

        if not re.fullmatch(MODEL_NAME, name):
            raise ModelRefused(name, "it is not a model name. Use letters, digits, `.`, `_` and `-`, a letter first.")
        if alias is not None:
            check_alias(name, alias)
        if not file.is_file():
            raise ModelRefused(name, f"there is no file {file}. Give the path of a saved XGBoost model.")
        self.store.check_writable()
        moment = now or datetime.now(UTC)
        candidate = Candidate(
            name, file.read_bytes(), file.name, reference, categories or {}, classes, metrics or {},
            trained_from, trained_until, group, missing, base_margin, link, iterations, expected, max_unscorable,
            features,
        )  # fmt: skip
        manifest = self._store(draft_manifest(candidate, moment), candidate.content)
        if alias is not None:
            self.promote(name, manifest.version, alias, by=by, note="registered", now=moment)
        return manifest

    def promote(
        self, name: str, version: str, alias: str, *, by: str = "", note: str = "", now: datetime | None = None
    ) -> None:
        """Move an alias to a version.

        Args:
            by: who moves it. With `note` it is part of the alias's history.
            note: why.

        Raises:
            ModelNotFound: there is no such version.
            ModelRefused: `alias` cannot be an alias.
        """
        check_alias(name, alias)
        self.store.check_writable()
        self.manifest(name, version)
        move_alias(self.store, name, alias, version, now or datetime.now(UTC), by, note)

    def promote_once(self, name: str, move: AliasMove) -> None:
        """Move an alias as a promotion with evidence decided. Repeating it changes nothing.

        Raises:
            AliasMoved: the alias does not name `move.previous` any more.
            ModelNotFound: there is no such version.
        """
        self.store.check_writable()
        self.manifest(name, move.version)
        move_promoted(self.store, name, move)

    def _store(self, draft: Manifest, content: bytes) -> Manifest:
        """Add the version whole. If its number is taken by then, try the next."""
        with self.store.draft(draft.name, draft.file, content) as incoming:
            while True:
                taken = [int(number) for number in self.store.numbers(draft.name) if re.fullmatch(VERSION, number)]
                manifest = draft.model_copy(update={"version": str(max(taken, default=0) + 1)})
                if incoming.publish(manifest.version, manifest.model_dump_json(indent=2).encode()):
                    return manifest

    def _read_aliases(self, name: str) -> Aliases:
        known = read_aliases(self.store, name) if _is_name(name) else Aliases()
        if not known.history and not self.versions(name):
            raise self._not_found(name)
        return known

    def _not_found(self, name: str, version: str | None = None) -> ModelNotFound:
        """Return the error of a model or a version, with those that exist."""
        ref = name if version is None else f"{name}@{version}"
        if not self.store.is_listable:
            return ModelNotFound(ref, str(self.folder), ())
        versions = self.versions(name)
        if not versions:
            return ModelNotFound(ref, str(self.folder), self.names())
        known = (*read_aliases(self.store, name).aliases, *versions)
        return ModelNotFound(ref, str(self.folder), tuple(f"{name}@{selector}" for selector in known))


def open_registry(settings: Settings, read_value: Callable[[str], str], device: Device = "cpu") -> Registry:
    """Return the model store of the settings.

    Args:
        read_value: returns the value of a named connection, which may be in a Prefect block.

    Raises:
        SettingsError: the connection `model_store` does not have the options of an object store.
    """
    folder = settings.models_folder
    has_options = is_remote(str(folder)) and STORE_CONNECTION in settings.urls
    access = parse_access(STORE_CONNECTION, read_value(STORE_CONNECTION)) if has_options else ENVIRONMENT
    return Registry(folder, device, access)


def _is_name(name: str) -> bool:
    return re.fullmatch(MODEL_NAME, name) is not None


@lru_cache(maxsize=_KEPT_LOADED)
def _load_verified(registry: Registry, pin: ModelPin) -> "ModelVersion":
    from penstock.models.booster import open_version

    manifest = registry.manifest(pin.name, pin.version)
    if manifest.sha256 != pin.digest:
        raise ModelRefused(
            manifest.label,
            f"the run is pinned to digest {pin.digest[:12]}…, but the store has {manifest.sha256[:12]}…: the version "
            "was replaced. Restore it, or start a run with the version that is in the store.",
        )
    path = f"{pin.name}/{pin.version}/{manifest.file}"
    where = f"{registry.folder}/{path}"
    try:
        content = registry.store.read(manifest.label, path, MODEL_BYTES)
    except FileNotFoundError:
        raise ModelRefused(manifest.label, f"{where} does not exist. Restore the version's folder.") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != manifest.sha256:
        raise ModelRefused(
            manifest.label,
            f"{where} has digest {digest[:12]}…, but {manifest.sha256[:12]}… was registered: its bytes changed. "
            "Restore the file, or register it as a new version.",
        )
    return open_version(manifest, content, registry.device)
