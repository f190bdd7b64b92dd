"""Write the nurses' notes: one text file for some of the stays, in a folder for each day of discharge."""

from datetime import timedelta
from pathlib import Path

import numpy as np

from penstock.examples.pack import Size
from penstock.examples.readmission.world import Numbers, World

NOTES = Path("notes")
NOTED = 0.6
"""Share of the stays with a note. Other wards write on paper."""
_CONCERNS = (
    ("Lives alone.", "Widowed, lives alone on the third floor.", "No relative nearby, lives alone."),
    ("Fell on the ward on Tuesday.", "Unsteady gait, walks with a frame.", "Came in after a fall at home."),
    ("Declines home care.", "Declined the offer of a nurse.", "Declines to take the new tablets."),
)
"""What a nurse writes if the patient lives alone, fell, or declines help."""
_OTHERWISE = ("Lives with family.", "No falls on the ward.", "Understands the medication plan.")
_COURSE = (
    "Recovered well, wound dry.",
    "Blood pressure stable.",
    "Slept badly, no pain.",
    "Eats and drinks well.",
    "Follow-up with the family doctor in two weeks.",
)


def write_notes(world: World, size: Size, places: Numbers, first_stay: int) -> int:
    """Write the notes of some stays. Return their number."""
    rng = np.random.default_rng([size.seed, 5])
    count = len(world.stays.patient)
    noted, wording = rng.random(count) < NOTED, rng.integers(0, 3, (count, 3))
    said, course = rng.random((count, 3)) < 0.5, rng.integers(0, len(_COURSE), (count, 2))
    written = places[noted[places]].tolist()
    for at in written:
        lines = [_COURSE[line] for line in course[at]]
        for concern, phrases in enumerate(_CONCERNS):
            if world.stays.concerns[at, concern]:
                lines.append(phrases[wording[at, concern]])
            elif said[at, concern]:
                lines.append(_OTHERWISE[concern])
        day = world.begin + timedelta(seconds=int(world.stays.discharged[at]))
        folder = NOTES / f"{day:%Y-%m-%d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{first_stay + at}.txt").write_text("\n".join(["Discharge note", *lines, ""]), encoding="utf-8")
    return len(written)
