"""Write the customers' letters: mails and scanned letters as text, one file each, with time and login in the name."""

from datetime import UTC, timedelta
from email.message import EmailMessage
from pathlib import Path

import numpy as np

from penstock.examples.card_fraud.world import World
from penstock.examples.pack import Size

LETTERS = Path("letters")
_PHISHED = (
    "I followed a link in a text message and entered my password. Please look at my account.",
    "A man who said he was from the bank asked for my code, and I gave away my password.",
    "The page looked like yours. I typed my PIN and password there.",
)
_OTHERS = (
    "The fee for the foreign transfer is wrong. I want a refund.",
    "I forgot my password, and nobody answers the telephone.",
    "A text message says that I won a phone. I deleted it.",
    "My new card has not arrived.",
    "The machine in the station kept my card.",
    "I was charged twice for the same dinner.",
)


def write_letters(world: World, size: Size) -> int:
    """Write all letters. Return their number."""
    rng = np.random.default_rng([size.seed, 3])
    drawn = world.letters
    LETTERS.mkdir(parents=True, exist_ok=True)
    for second, card, phished in zip(drawn.second.tolist(), drawn.card.tolist(), drawn.phished.tolist(), strict=True):
        said = _PHISHED[rng.integers(len(_PHISHED))] if phished else _OTHERS[rng.integers(len(_OTHERS))]
        at = (world.begin + timedelta(seconds=second)).astimezone(UTC)
        name = f"{at:%Y%m%dT%H%M%S}_c{card + 1:06d}"
        if rng.random() < 0.5:
            (LETTERS / f"{name}.eml").write_bytes(_mail(said))
        else:
            (LETTERS / f"{name}.txt").write_text(f"Dear Sir or Madam,\n{said}\nYours faithfully\n", encoding="utf-8")
    return len(drawn.second)


def _mail(said: str) -> bytes:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "customer@example.org", "complaints@example.com", "My account"
    mail.set_content(f"Hello,\n\n{said}\n")
    return mail.as_bytes()
