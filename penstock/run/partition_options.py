"""The options for validating and scoring the rows of a partition."""

from dataclasses import dataclass

from penstock.privacy.masking import MaskingPolicy


@dataclass(frozen=True)
class PartitionOptions:
    """How to validate and score a partition's rows. Made in the scoring process, because only it has the secret."""

    masking: MaskingPolicy
    """What may be stored of refused rows."""
    statement_seconds: int
    """How long the features query, a condition or a decision may take."""
    sample_share: float = 1.0
    """Share of the rows that the audit sees, 1.0 for all."""
    others_stand: bool = False
    """Whether the rows of the other sources stay from one partition to the next, as a server's snapshot does."""
    threads: int | None = None
    """Threads that predict; None: as many as there are processors. A server takes one for each pipeline."""
