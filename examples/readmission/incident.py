"""Incidents at the hospitals, and outcomes that arrive late."""

from datetime import timedelta
from typing import Any

import numpy as np
import sqlalchemy as sa

from penstock import Project
from penstock.examples.database import append_rows
from penstock.examples.pack import FollowUp, Incident, Size
from penstock.examples.readmission.generate import (
    FIRST_STAY,
    PIPELINE,
    admissions,
    diagnoses,
    is_withheld,
    places_until_end,
    readmissions,
    readmissions_table,
    spoil,
    write_stays,
)
from penstock.examples.readmission.notes import write_notes
from penstock.examples.readmission.world import WITHIN, draw_world

DAY = timedelta(days=1)
HOURS = 24
ICD_10 = {"428": "I50.9", "414": "I25.10", "410": "I21.9", "486": "J18.9", "250.82": "E11.9", "V57": "Z51.89"}
"""Some codes in the new catalogue."""


def rename_stay(project: Project, size: Size) -> None:
    _execute(project, sa.text("alter table admissions rename column days_in_hospital to length_of_stay"))


def rename_stay_back(project: Project, size: Size) -> None:
    _execute(project, sa.text("alter table admissions rename column length_of_stay to days_in_hospital"))


def code_in_icd_10(project: Project, size: Size) -> None:
    for old, new in ICD_10.items():
        _recode(project, size, old, new)


def code_in_icd_9(project: Project, size: Size) -> None:
    for old, new in ICD_10.items():
        _recode(project, size, new, old)


def write_hours(project: Project, size: Size) -> None:
    _scale_stays(project, size, admissions.c.days_in_hospital * HOURS)


def write_days_again(project: Project, size: Size) -> None:
    _scale_stays(project, size, admissions.c.days_in_hospital / sa.literal_column(str(HOURS)))


def enter_late(project: Project, size: Size) -> None:
    world = draw_world(size)
    late = np.flatnonzero(is_withheld(world, size))
    with project.connect("hospital").writing() as connection:
        write_stays(connection, world, size, spoil(world, size), late)
    write_notes(world, size, late, FIRST_STAY)


def leave_as_it_is(project: Project, size: Size) -> None:
    """Do nothing: there is nothing to repair."""


def deliver_outcomes(project: Project, size: Size) -> int:
    """Write the outcomes that were still unknown. Return their number."""
    world = draw_world(size)
    known = project.query("hospital", sa.select(readmissions.c.encounter_id))["encounter_id"].to_numpy() - FIRST_STAY
    still_open = np.setdiff1d(places_until_end(world, size), known)
    with project.connect("hospital").writing() as connection:
        append_rows(connection, readmissions, readmissions_table(world, still_open))
    return len(still_open)


def _recode(project: Project, size: Size, old: str, new: str) -> None:
    newest = sa.select(admissions.c.encounter_id).where(admissions.c.discharged_at >= size.until - DAY)
    changed = sa.update(diagnoses).where(diagnoses.c.code == old, diagnoses.c.encounter_id.in_(newest))
    _execute(project, changed.values(code=new))


def _scale_stays(project: Project, size: Size, days: sa.ColumnElement[Any]) -> None:
    newest = admissions.c.discharged_at >= size.until - DAY
    _execute(project, sa.update(admissions).where(newest).values(days_in_hospital=days))


def _execute(project: Project, statement: sa.Executable) -> None:
    with project.connect("hospital").writing() as connection:
        connection.execute(statement)


INCIDENTS: tuple[Incident, ...] = (
    Incident(
        "renamed",
        "schema",
        PIPELINE,
        "A release of the ward system renames `admissions.days_in_hospital` to `length_of_stay`.",
        rename_stay,
        rename_stay_back,
        "The release is rolled back, or the features query takes the new name.",
        "halted",
        "`days_in_hospital` was int and is gone",
    ),
    Incident(
        "icd-10",
        "upstream",
        PIPELINE,
        "The coding office changes to the new catalogue of diagnoses overnight.",
        code_in_icd_10,
        code_in_icd_9,
        "The office sends old codes as well, until a model is trained on the new ones.",
        "halted",
        "code column_values_to_match_regex",
    ),
    Incident(
        "hours",
        "drift",
        PIPELINE,
        "One hospital's interface sends the length of a stay in hours.",
        write_hours,
        write_days_again,
        "The interface is fixed, and sends the day again.",
        "halted",
        "days_in_hospital column_mean_to_be_between",
    ),
    Incident(
        "late",
        "late",
        PIPELINE,
        "A ward enters discharges of days that were scored before.",
        enter_late,
        leave_as_it_is,
        "Nothing: the days of these discharges are scored again.",
        "restated",
    ),
)
LABELS_AFTER: tuple[timedelta, ...] = (10 * DAY, WITHIN + DAY)
FOLLOW_UPS: tuple[FollowUp, ...] = (
    FollowUp(
        PIPELINE,
        "The challenger reads the nurses' notes, which the champion does not. A month later the outcomes judge both.",
        "auc",
        "promoted",
        "reads the notes, and orders the patients better",
    ),
)
