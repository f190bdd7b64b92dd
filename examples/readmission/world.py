"""Draw the hospitals' data: patients, their stays, and who returned within thirty days.

A patient has one stay, then up to four more, each drawn by the risk of the one before. So earlier stays, diagnoses and
discharges are related to the outcome, as in reality.
"""

from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.examples.pack import Size

WITHIN = timedelta(days=30)
"""A return within this time is a readmission. It is also the longest time until the outcome is known."""
DAY = 86_400
STAYS_A_PATIENT = 1.4
BEFORE = 200
"""Days drawn before the start of the data, so that the first written stays are not all first stays."""
HOME, NURSING, HOME_CARE, DIED, HOSPICE = 1, 3, 6, 11, 13
"""Codes for where a patient goes after the stay, as on the hospitals' forms."""
CHAPTERS = (
    ("428", "414", "410", "427"),
    ("486", "491.21", "518.81"),
    ("250.82", "250.13"),
    ("574", "562.11"),
    ("715.36",),
    ("599", "599", "584.9", "584.9", "38"),
    ("996.62", "820.21"),
    ("V57", "V58.11"),
)
"""Codes of diagnoses: heart, lungs, diabetes, digestion, joints, kidneys, injuries, treatments without an illness.

`38` is 038, an infection of the blood; some wards omit the leading zero.
"""
_CHAPTER_SHARES = (0.33, 0.15, 0.12, 0.1, 0.06, 0.09, 0.1, 0.05)
_CHAPTER_RISK = np.array([0.25, 0.1, 0.25, 0.0, -0.45, 0.2, 0.0, 0.3])

Numbers = npt.NDArray[Any]


@dataclass(frozen=True)
class Patients:
    """A patient's number is its position, from 1."""

    decade: Numbers
    """Age in decades: 7 is from 70 to under 80."""
    female: Numbers
    frailty: Numbers
    """How often a patient is ill. Not in any table."""


@dataclass(frozen=True)
class Stays:
    """In the order of discharge. A stay's number is its position, from 1."""

    patient: Numbers
    admitted: Numbers
    """Second since the start of the data."""
    discharged: Numbers
    emergency: Numbers
    goes_to: Numbers
    procedures: Numbers
    lab_procedures: Numbers
    medications: Numbers
    visits_before: Numbers
    """Outpatient, emergency and inpatient. One row for each stay."""
    chapters: Numbers
    """Of three diagnoses. One row for each stay."""
    concerns: Numbers
    """Whether the patient lives alone, fell, or declines help. Only notes say it. One row for each stay."""
    insulin: Numbers
    measured: Numbers
    """Whether the long-term blood sugar was measured."""
    comes_back: Numbers
    """Within thirty days."""
    gap: Numbers
    """Seconds from discharge to the return, or until it is certain that there is none."""


@dataclass(frozen=True)
class World:
    begin: datetime
    patients: Patients
    stays: Stays

    def second_of(self, moment: datetime) -> int:
        return int((moment - self.begin).total_seconds())


def draw_world(size: Size) -> World:
    """Draw everything, from before the start until thirty days after the end. The same size gives the same data."""
    rng = np.random.default_rng(size.seed)
    days = BEFORE + size.days + WITHIN.days
    count = round(size.rows * days / size.days / STAYS_A_PATIENT)
    frailty = rng.normal(0, 1, count)
    decade = np.clip(np.round(rng.normal(6.4 + 0.3 * frailty, 1.5)), 1, 9).astype(np.int64)
    patients = Patients(decade, rng.random(count) < 0.54, frailty)
    seconds = rng.integers(0, days * DAY, count) - BEFORE * DAY
    waves = [_draw_stays(rng, patients, np.arange(count), seconds, np.zeros(count, np.int64))]
    for _ in range(4):
        waves.append(_come_again(rng, patients, waves[-1]))
    stays = Stays(*(np.concatenate([getattr(wave, f.name) for wave in waves]) for f in fields(Stays)))
    order = np.argsort(stays.discharged, kind="stable")
    in_order = Stays(*(getattr(stays, f.name)[order] for f in fields(Stays)))
    return World(size.until - timedelta(days=size.days), patients, in_order)


def _come_again(rng: np.random.Generator, patients: Patients, wave: Stays) -> Stays:
    """Return the next stays of a wave's patients: soon after a readmission, much later for some others."""
    later = ~wave.comes_back & (wave.goes_to != DIED) & (rng.random(len(wave.patient)) < 0.2)
    wait = np.where(wave.comes_back, wave.gap, rng.integers(40 * DAY, 200 * DAY, len(wave.patient)))
    back = wave.comes_back | later
    return _draw_stays(
        rng, patients, wave.patient[back], (wave.discharged + wait)[back], 1 + wave.visits_before[back, 2]
    )


def _draw_stays(
    rng: np.random.Generator, patients: Patients, who: Numbers, admitted: Numbers, known_before: Numbers
) -> Stays:
    count, frailty = len(who), patients.frailty[who]
    emergency = rng.random(count) < 0.55
    nights = np.clip(rng.geometric(0.24, count) + (frailty > 1), 1, 14)
    chapters = rng.choice(len(CHAPTERS), (count, 3), p=_CHAPTER_SHARES)
    visits = rng.poisson(np.exp(np.column_stack([-1.2 + 0.4 * frailty, -2.0 + 0.8 * frailty, -1.1 + 0.8 * frailty])))
    visits[:, 2] = np.maximum(visits[:, 2], known_before)
    lives = rng.choice([HOME, NURSING, HOME_CARE], count, p=[0.67, 0.16, 0.17])
    goes_to = np.where(rng.random(count) < 0.02, DIED, np.where(rng.random(count) < 0.006, HOSPICE, lives))
    medications = np.clip(np.round(rng.normal(15 + 1.5 * frailty, 6)), 1, 60).astype(np.int64)
    insulin, measured = rng.random(count) < 0.5, rng.random(count) < 0.18
    concerns = rng.random((count, 3)) < 0.15
    logit = (
        -2.9
        + 0.42 * np.minimum(visits[:, 2], 5)
        + 0.2 * np.minimum(visits[:, 1], 4)
        + _CHAPTER_RISK[chapters[:, 0]]
        + 0.55 * (goes_to == NURSING)
        + 0.06 * (nights - 4)
        + 0.1 * (patients.decade[who] - 6)
        + 0.2 * insulin
        - 0.25 * measured
        + 0.2 * frailty
        + 1.2 * concerns.sum(axis=1)
        - 0.6
    )
    leaves_alive = (goes_to != DIED) & (goes_to != HOSPICE)
    comes_back = leaves_alive & (rng.random(count) < 1 / (1 + np.exp(-logit)))
    span = int(WITHIN.total_seconds())
    return Stays(
        patient=who,
        admitted=admitted,
        discharged=admitted + nights * DAY + rng.integers(-3 * 3600, 3 * 3600, count),
        emergency=emergency,
        goes_to=goes_to,
        procedures=rng.poisson(1.3, count),
        lab_procedures=np.clip(np.round(rng.normal(43 + 4 * emergency, 19)), 1, 130).astype(np.int64),
        medications=medications,
        visits_before=visits,
        chapters=chapters,
        concerns=concerns,
        insulin=insulin,
        measured=measured,
        comes_back=comes_back,
        gap=np.where(comes_back, rng.integers(DAY, span, count), span),
    )
