"""Write the hospitals' database and notes: patients, stays, diagnoses, and which patients came back.

`python -m penstock.examples.readmission generate --rows 24000 --days 120 --seed 7 --dirty 0.003`
"""

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from penstock import Project
from penstock.examples.database import UTC_TIME, append_rows
from penstock.examples.drawing import columns, moments
from penstock.examples.pack import Made, Size
from penstock.examples.readmission.notes import write_notes
from penstock.examples.readmission.world import CHAPTERS, DAY, DIED, HOSPICE, Numbers, World, draw_world

PIPELINE = "readmission"
SCORED_DAYS = 3
FIRST_STAY = 100_000
NO_SPECIALTY = "TeleMedicine"
"""A department that opened after the model was trained."""
_SPECIALTIES = ("InternalMedicine", "Emergency/Trauma", "Cardiology", "Surgery-General", "Orthopedics")
_RACES = ("Caucasian", "AfricanAmerican", "Hispanic", "Asian", "Other")

metadata = sa.MetaData()
patients = sa.Table(
    "patients",
    metadata,
    sa.Column("patient_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("family_name", sa.Text),
    sa.Column("postcode", sa.Text),
    sa.Column("sex", sa.Text, nullable=False),
    sa.Column("race", sa.Text, nullable=False),
    sa.Column("age_group", sa.Text, nullable=False),
)
admissions = sa.Table(
    "admissions",
    metadata,
    sa.Column("encounter_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("patient_id", sa.BigInteger, nullable=False, index=True),
    sa.Column("admitted_at", UTC_TIME, nullable=False),
    sa.Column("discharged_at", UTC_TIME, nullable=False, index=True),
    sa.Column("updated_at", UTC_TIME, nullable=False),
    sa.Column("admission_type", sa.BigInteger, nullable=False),
    sa.Column("discharge_to", sa.BigInteger, nullable=False),
    sa.Column("specialty", sa.Text, nullable=False),
    sa.Column("payer", sa.Text, nullable=False),
    sa.Column("days_in_hospital", sa.BigInteger, nullable=False),
    sa.Column("lab_procedures", sa.BigInteger, nullable=False),
    sa.Column("procedures", sa.BigInteger, nullable=False),
    sa.Column("medications", sa.BigInteger, nullable=False),
    sa.Column("outpatient_before", sa.BigInteger, nullable=False),
    sa.Column("emergency_before", sa.BigInteger, nullable=False),
    sa.Column("inpatient_before", sa.BigInteger, nullable=False),
    sa.Column("diagnoses", sa.BigInteger, nullable=False),
    sa.Column("glucose", sa.Text, nullable=False),
    sa.Column("a1c", sa.Text, nullable=False),
    sa.Column("insulin", sa.Text, nullable=False),
    sa.Column("medication_changed", sa.Text, nullable=False),
)
diagnoses = sa.Table(
    "diagnoses",
    metadata,
    sa.Column("encounter_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("code", sa.Text, nullable=False),
)
readmissions = sa.Table(
    "readmissions",
    metadata,
    sa.Column("encounter_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("known_at", UTC_TIME, nullable=False),
    sa.Column("within_30_days", sa.Boolean, nullable=False),
)


def make_hospitals(project: Project, size: Size) -> Made:
    """Fill the database, without late entries and without the outcomes of the last thirty days."""
    world = draw_world(size)
    spoiled, there = spoil(world, size), places_until_end(world, size)
    on_time = there[~is_withheld(world, size)[there]]
    known = known_places(world, size)
    database = project.connect("hospital")
    metadata.create_all(database.engine)
    with database.writing() as connection:
        append_rows(connection, patients, patients_table(world, size, spoiled))
        write_stays(connection, world, size, spoiled, on_time)
        append_rows(connection, readmissions, readmissions_table(world, known))
    notes = write_notes(world, size, on_time, FIRST_STAY)
    scored = there[world.stays.discharged[there] >= _scored_from(world, size)]
    left_out = int(np.isin(world.stays.goes_to[scored], (DIED, HOSPICE)).sum())
    people = len(np.unique(world.stays.patient[on_time]))
    back = int(world.stays.comes_back[known].sum())
    summary = {
        "hospital: admissions": f"{len(on_time):,} stays of {people:,} patients in {size.days} days",
        "hospital: diagnoses": f"{3 * len(on_time):,}",
        "notes/": f"{notes:,} discharge notes, one text file each",
        "hospital: readmissions": f"{len(known):,} stays whose thirty days are over, {back:,} came back",
    }
    return Made(summary, {PIPELINE: len(scored)}, {PIPELINE: len(spoiled)}, {PIPELINE: left_out})


def places_until_end(world: World, size: Size) -> Numbers:
    """Return the positions of the stays that ended before the end of the data."""
    discharged = world.stays.discharged
    return np.flatnonzero((discharged >= 0) & (discharged < world.second_of(size.until)))


def known_places(world: World, size: Size) -> Numbers:
    """Return the positions of the stays with a known outcome."""
    there = places_until_end(world, size)
    return there[(world.stays.discharged + world.stays.gap)[there] <= world.second_of(size.until)]


def spoil(world: World, size: Size) -> dict[int, str]:
    """Choose which scored, timely stays to corrupt, and how: not excluded ones, and one stay a patient."""
    rng, stays = np.random.default_rng([size.seed, 1]), world.stays
    there = places_until_end(world, size)
    scored = there[stays.discharged[there] >= _scored_from(world, size)]
    alone = np.bincount(stays.patient[scored], minlength=len(world.patients.decade))[stays.patient[scored]] == 1
    fit = scored[alone & (stays.goes_to[scored] < DIED) & ~is_withheld(world, size)[scored]]
    chosen = rng.permutation(fit)[: max(round(len(fit) * size.dirty), 3) if size.dirty else 0]
    return {at: ("stay", "patient", "specialty")[number % 3] for number, at in enumerate(chosen.tolist())}


def is_withheld(world: World, size: Size) -> Numbers:
    """Mark stays that a ward enters a day late. None of the newest scored day."""
    discharged, newest = world.stays.discharged, world.second_of(size.until) - DAY
    late: Numbers = (np.arange(len(discharged)) % 23 == 0) & (discharged < newest)
    return late & (discharged >= _scored_from(world, size))


def write_stays(connection: sa.Connection, world: World, size: Size, spoiled: dict[int, str], places: Numbers) -> None:
    """Append some stays and their diagnoses."""
    append_rows(connection, admissions, admissions_table(world, size, spoiled, places))
    append_rows(connection, diagnoses, diagnoses_table(world, size, places))


def patients_table(world: World, size: Size, spoiled: dict[int, str]) -> pa.Table:
    """Return the patients, without those removed on purpose. Names and races are drawn. No outcome depends on them."""
    rng = np.random.default_rng([size.seed, 2])
    drawn = world.patients
    number = np.arange(len(drawn.decade))
    lacking = world.stays.patient[[at for at, how in spoiled.items() if how == "patient"]]
    race = np.array(_RACES, object)[rng.choice(5, len(number), p=[0.75, 0.19, 0.02, 0.02, 0.02])]
    table = columns(
        {
            "patient_id": number + 1,
            "family_name": [f"Family {at:05d}" for at in rng.permutation(number).tolist()],
            "postcode": [f"{at:05d}" for at in rng.integers(10_000, 99_999, len(number)).tolist()],
            "sex": np.where(drawn.female, "Female", "Male").tolist(),
            "race": _with_gaps(rng, race, "?", 0.02, size).tolist(),
            "age_group": [f"[{10 * at}-{10 * at + 10})" for at in drawn.decade.tolist()],
        }
    )
    return table.filter(pa.array(~np.isin(number, lacking)))


def admissions_table(world: World, size: Size, spoiled: dict[int, str], places: Numbers) -> pa.Table:
    """Return some stays as the hospitals' database stores them, with its three ways to mark a missing value.

    `?` if the form was not filled in, `None` if nothing was measured, 0 if the laboratory's system sent no number.
    """
    drawn, rng = world.stays, np.random.default_rng([size.seed, 3])
    count = len(drawn.patient)
    specialty = np.array(_SPECIALTIES, object)[rng.choice(5, count, p=[0.4, 0.2, 0.15, 0.15, 0.1])]
    specialty = _with_gaps(rng, specialty, "?", 0.49, size)
    payer = _with_gaps(rng, np.array(["MC", "HM", "SP"], object)[rng.integers(0, 3, count)], "?", 0.4, size)
    labs = _with_gaps(rng, drawn.lab_procedures, 0, 0.03, size)
    sugar = np.where(drawn.measured, np.array(["Norm", ">7", ">8"], object)[rng.integers(0, 3, count)], "None")
    glucose = np.where(rng.random(count) < 0.05, np.array(["Norm", ">200"], object)[rng.integers(0, 2, count)], "None")
    kind = np.where(drawn.emergency, 1, rng.choice([2, 3, 6], count, p=[0.4, 0.4, 0.2]))
    nights = np.maximum(np.round((drawn.discharged - drawn.admitted) / DAY), 1).astype(np.int64)
    changed = np.where(rng.random(count) < 0.46, "Ch", "No").astype(object)
    for at, how in spoiled.items():
        if how == "stay":
            nights[at] = -nights[at]
        elif how == "specialty":
            specialty[at] = NO_SPECIALTY
    drawn_columns = {
        "encounter_id": np.arange(count) + FIRST_STAY,
        "patient_id": drawn.patient + 1,
        "admission_type": kind,
        "discharge_to": drawn.goes_to,
        "specialty": specialty,
        "payer": payer,
        "days_in_hospital": nights,
        "lab_procedures": labs,
        "procedures": drawn.procedures,
        "medications": drawn.medications,
        "outpatient_before": drawn.visits_before[:, 0],
        "emergency_before": drawn.visits_before[:, 1],
        "inpatient_before": drawn.visits_before[:, 2],
        "diagnoses": np.full(count, 3),
        "glucose": glucose,
        "a1c": sugar,
        "insulin": np.where(drawn.insulin, "Steady", "No").astype(object),
        "medication_changed": changed,
    }
    table = {name: values[places] for name, values in drawn_columns.items()}
    times = {"admitted_at": drawn.admitted, "discharged_at": drawn.discharged, "updated_at": drawn.discharged}
    return columns(table | {name: moments(world.begin, seconds[places]) for name, seconds in times.items()})


def diagnoses_table(world: World, size: Size, places: Numbers) -> pa.Table:
    """Return three diagnoses for each of some stays. The third is often missing."""
    rng = np.random.default_rng([size.seed, 4])
    code = np.empty(world.stays.chapters.shape, object)
    for chapter, codes in enumerate(CHAPTERS):
        here = world.stays.chapters == chapter
        code[here] = np.array(codes, object)[rng.integers(0, len(codes), int(here.sum()))]
    code[:, 2] = _with_gaps(rng, code[:, 2], "?", 0.1, size)
    return columns(
        {
            "encounter_id": np.repeat(places + FIRST_STAY, 3),
            "position": np.tile(np.arange(1, 4), len(places)),
            "code": code[places].ravel().tolist(),
        }
    )


def readmissions_table(world: World, places: Numbers) -> pa.Table:
    drawn = world.stays
    known = moments(world.begin, (drawn.discharged + drawn.gap)[places])
    return columns({"encounter_id": places + FIRST_STAY, "known_at": known, "within_30_days": drawn.comes_back[places]})


def _with_gaps(rng: np.random.Generator, values: Numbers, gap: str | int, share: float, size: Size) -> Numbers:
    """Replace a share of the values by the source's mark for "missing"; none if the data are clean."""
    filled: Numbers = np.where(rng.random(len(values)) < (share if size.dirty else 0), gap, values)
    return filled


def _scored_from(world: World, size: Size) -> int:
    return world.second_of(size.until) - SCORED_DAYS * DAY
