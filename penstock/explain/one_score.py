"""Explain one score: what the warehouse has about a key, and reasons that are made now if none are stored."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from penstock.database.connections import Connector, Database
from penstock.explain.in_source import describe_absence
from penstock.explain.on_demand import make_reasons
from penstock.explain.promotions import Promotion, read_promotions
from penstock.explain.scores import OTHER_SCORES, KeyRecord, read_key
from penstock.labels.key_text import possible_keys
from penstock.ledger.served_rows import ServedRow, find_served_keys
from penstock.models.registry import Registry
from penstock.privacy.masking import MaskingPolicy, make_masking, make_record_masking
from penstock.privacy.row_key import RowKey
from penstock.privacy.secret_keys import KeyRing
from penstock.run.partition_options import PartitionOptions
from penstock.seals.keys import read_seal_keys
from penstock.settings import Settings
from penstock.spec.pipeline import Pipeline


@dataclass(frozen=True)
class Explanation:
    """All that is known of one score."""

    record: KeyRecord
    promotions: Sequence[Promotion]
    """Moves of aliases to the models of the run."""
    origin: str
    """Where the reasons come from, or why there are none."""
    absence: str
    """Why no run has the key. Empty if one has."""


@dataclass(frozen=True)
class Explainer:
    """Explains scores of one pipeline. Nothing is written."""

    pipeline: Pipeline
    settings: Settings
    warehouse: Database
    connect: Connector
    """Opens the sources."""
    registry: Registry

    def explain(self, row_key: RowKey, run_prefix: str = "", *, make: bool = True) -> Explanation:
        """Explain the score of a key.

        Args:
            run_prefix: Beginning of the ID of the run to explain. Empty: the live one.
            make: Make reasons that no run has stored, if the model still gives the row the same score. This reads the
                row's interval at its source.

        Raises:
            RunNotFound: no run has that ID.
            SettingsError: a value of the key is not of its column's type.
        """
        masking = make_masking(self.pipeline, self.settings)
        keys, records = _seal_keys(self.settings), make_record_masking(self.settings)
        record = read_key(self.warehouse, self.pipeline, row_key, masking, records, run_prefix, keys)
        record = replace(record, served=self._find_served(record.row_key, masking))
        origin, absence = "stored with the run", ""
        if record.lacks_reasons:
            record, origin = self._make(record, masking) if make else (record, "none are stored")
        elif record.shown is None and run_prefix:
            absence = f"Run {run_prefix} has not scored this key."
        elif record.shown is None and not record.refusals:
            absence = describe_absence(self.pipeline, row_key, self.connect, self.warehouse)
        promotions = read_promotions(self.registry, record.shown.run) if record.shown else ()
        return Explanation(record, promotions, origin, absence)

    def _find_served(self, row_key: RowKey, masking: MaskingPolicy) -> tuple[ServedRow, ...]:
        keys, pipeline = possible_keys(row_key, masking), self.pipeline
        return tuple(find_served_keys(self.warehouse, pipeline.name, pipeline.destination, keys, OTHER_SCORES))

    def _make(self, record: KeyRecord, masking: MaskingPolicy) -> tuple[KeyRecord, str]:
        """Return the record with reasons that were made now, and where they come from."""
        assert record.shown is not None
        options = PartitionOptions(masking, self.settings.statement_seconds)
        with ExitStack() as opened:
            folder = opened.enter_context(TemporaryDirectory(prefix="penstock-"))
            connect = replace(self.connect, run_folder=Path(folder))
            chosen = bool(record.reasons)
            made = make_reasons(
                self.pipeline, record.row_key, record.shown, connect, self.registry, options, chosen=chosen
            )
        if made.refused:
            return record, f"none. They are not stored, and cannot be made now: {made.refused}"
        return replace(record, reasons=made.reasons), "made now, from the same score"


def _seal_keys(settings: Settings) -> KeyRing | None:
    return read_seal_keys(settings, "the row's seal is checked") if settings.seal_key else None
