"""Compute the figures of the README: `python -m penstock.examples.readmission evaluate --real diabetic_data.csv.gz`.

The real data are 101,766 stays of patients with diabetes in 130 hospitals of the United States, over ten years. They
are converted to the pack's three tables, and its features query reads them. They have no notes. They have no times, but
the numbers of the stays grow with time, so the last fifth by number is the holdout.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
from pyarrow import csv

from penstock import Project, apply_features, load_pipeline
from penstock.examples.judging import Judged, Numbers, compare, hold_out, to_numbers
from penstock.examples.pack import Size
from penstock.examples.project import SHIPPED
from penstock.examples.readmission.generate import PIPELINE
from penstock.examples.readmission.train import HOW, LABEL, NOTES, TIME, feature_names, learned_rows

METRICS = ("auc", "aucpr")
FIRST = datetime(1999, 1, 1, tzinfo=UTC)
_NAMES = {
    "encounter_id": "encounter_id",
    "patient_id": "patient_nbr",
    "admission_type": "admission_type_id",
    "discharge_to": "discharge_disposition_id",
    "specialty": "medical_specialty",
    "payer": "payer_code",
    "days_in_hospital": "time_in_hospital",
    "lab_procedures": "num_lab_procedures",
    "procedures": "num_procedures",
    "medications": "num_medications",
    "outpatient_before": "number_outpatient",
    "emergency_before": "number_emergency",
    "inpatient_before": "number_inpatient",
    "diagnoses": "number_diagnoses",
    "glucose": "max_glu_serum",
    "a1c": "A1Cresult",
    "insulin": "insulin",
    "medication_changed": "change",
}
"""The real file's column for each column of the pack."""


def earlier_stays(rows: pa.Table) -> Numbers:
    """Score by a rule that a ward could use: earlier stays, then emergency visits."""
    return to_numbers(rows["inpatient_before"]) + to_numbers(rows["emergency_before"]) / 100


RULES = {"stays in hospital in the year before, then visits to emergency": earlier_stays}


def judge_generated(project: Project, size: Size) -> dict[str, list[Judged]]:
    """Measure on the newest fifth of the stays whose thirty days are over."""
    return judge_rows(learned_rows(project, size), "generated", with_notes=True)


def judge_real(path: Path) -> dict[str, list[Judged]]:
    """Measure on the last fifth of the stays after which a patient could return."""
    stays = read_stays(path)
    rows = apply_features(load_pipeline(SHIPPED / f"{PIPELINE}.yaml"), stays)
    return judge_rows(rows.join(stays["readmissions"], "encounter_id"), "real (130 hospitals, UCI)", with_notes=False)


def judge_rows(frame: pa.Table, what: str, *, with_notes: bool) -> dict[str, list[Judged]]:
    features = feature_names(frame)
    without = [name for name in features if name not in NOTES]
    holdout = hold_out(frame, LABEL, TIME, features=features if with_notes else without, **HOW)
    back = to_numbers(frame[LABEL]).mean()
    title = f"{frame.num_rows:,} {what} stays, {back:.1%} followed by another within thirty days"
    if holdout.refused:
        title += f"; {holdout.refused} of the last fifth set aside, as a run does"
    model, *others = compare(holdout, LABEL, RULES, METRICS)
    if with_notes:
        blind = hold_out(frame, LABEL, TIME, features=without, **HOW)
        others.insert(0, replace(compare(blind, LABEL, {}, METRICS)[0], name="model without the notes"))
    return {title: [model, *others]}


def read_stays(path: Path) -> dict[str, pa.Table]:
    """Read the real file as the pack's tables, in the order of the stays' numbers, one minute apart."""
    kept_as_text = csv.ConvertOptions(strings_can_be_null=False)
    real = csv.read_csv(path, convert_options=kept_as_text).sort_by("encounter_id")
    ended = [FIRST + timedelta(minutes=at) for at in range(real.num_rows)]
    back = [readmitted == "<30" for readmitted in real["readmitted"].to_pylist()]
    people = _renamed(real, {"patient_id": "patient_nbr", "age_group": "age"})
    one_row_each = people.group_by("patient_id", use_threads=False).aggregate([("age_group", "first")])
    return {
        "admissions": _renamed(real, _NAMES).append_column(TIME, pa.array(ended, pa.timestamp("us", "UTC"))),
        "patients": one_row_each.rename_columns(["patient_id", "age_group"]),
        "diagnoses": pa.concat_tables(_diagnosis(real, position) for position in (1, 2, 3)),
        "notes": pa.table({"path": pa.array([], pa.string()), "text": pa.array([], pa.string())}),
        "readmissions": _renamed(real, {"encounter_id": "encounter_id"}).append_column(LABEL, pa.array(back)),
    }


def _diagnosis(real: pa.Table, position: int) -> pa.Table:
    rows = _renamed(real, {"encounter_id": "encounter_id", "code": f"diag_{position}"})
    text = rows.set_column(1, "code", rows["code"].cast(pa.string()))
    return text.append_column("position", pa.array([position] * real.num_rows))


def _renamed(real: pa.Table, names: dict[str, str]) -> pa.Table:
    return real.select(list(names.values())).rename_columns(list(names))
