"""What the steps of a partition are given beside its rows."""

from dataclasses import dataclass

from penstock.privacy.masking import MaskingPolicy


@dataclass(frozen=True)
class PartitionOptions:
    """How a partition's rows are judged and scored; made in the process that does it, because it has the secret."""

    masking: MaskingPolicy
    """What of refused rows may be stored."""
    statement_seconds: int
    """How long the features query, a condition or a decision may take."""
    sample_share: float = 1.0
    """Share of the rows that the audit sees, 1.0 for all."""
