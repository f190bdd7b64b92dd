"""The keys of seals, from the settings."""

from penstock.privacy.secret_keys import KeyRing, read_key_ring
from penstock.settings import Settings

VARIABLE = "PENSTOCK_SEAL_KEY"


def read_seal_keys(settings: Settings, why: str) -> KeyRing:
    """Return the keys of seals.

    Args:
        why: What needs them, the begin of the message.

    Raises:
        SettingsError: the key is not set, or too short.
    """
    loss = "If you lose it, nobody can check the seals any more."
    return read_key_ring(settings.seal_key, settings.seal_key_old, VARIABLE, why, loss)
