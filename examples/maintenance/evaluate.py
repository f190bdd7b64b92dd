"""Compute the figures of the README: `python -m penstock.examples.maintenance evaluate --real ai4i2020.csv`.

The real data are 10,000 parts made on one line; 3.4 % made the machine fail. The file also has five kinds of failure
(TWF, HDF, PWF, OSF, RNF), which are known only after the failure and leak the answer. They are left out; the figures
with them are shown as a warning. XGBoost refuses the brackets in the column names, so these are removed.
"""

import re
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv

from penstock import Project
from penstock.examples.judging import Judged, Numbers, compare, hold_out, to_numbers
from penstock.examples.maintenance.generate import FAILURE
from penstock.examples.maintenance.outcomes import LONGEST
from penstock.examples.maintenance.train import QUESTIONS, Question, feature_names, learned_rows
from penstock.examples.pack import Size

LEAKS = ("twf", "hdf", "pwf", "osf", "rnf")
_HOW = QUESTIONS[0].how
_HOURS = LONGEST / timedelta(hours=1)


def judge_generated(project: Project, size: Size) -> dict[str, list[Judged]]:
    """Measure both models on the newest fifth of the windows with a certain outcome."""
    return dict(_judge_question(project, size, asked) for asked in QUESTIONS)


def _judge_question(project: Project, size: Size, asked: Question) -> tuple[str, list[Judged]]:
    frame = learned_rows(project, size, asked)
    holdout = hold_out(frame, asked.label, asked.time, features=feature_names(frame, asked), **asked.how)
    title = f"{frame.num_rows:,} generated {asked.time}s of machines: `{asked.pipeline}`"
    if asked.pipeline == FAILURE:
        rules = {"hours since the repair": hours_since_repair, "vibration over four hours": vibration}
        return title, compare(holdout, asked.label, rules, ("aucpr", "auc"))
    usual = float((to_numbers(holdout.learned[asked.label]) + hours_since_repair(holdout.learned)).mean())
    rules = {"the usual life less the hours since the repair": lambda rows: hours_to_go(rows, usual)}
    return title, compare(holdout, asked.label, rules, ("mae", "rmse"))


def hours_since_repair(rows: pa.Table) -> Numbers:
    return np.nan_to_num(to_numbers(rows["hours_since_repair"]))


def vibration(rows: pa.Table) -> Numbers:
    return np.nan_to_num(to_numbers(rows["vibration_high_4h"]))


def hours_to_go(rows: pa.Table, usual: float) -> Numbers:
    """Return what a maintenance plan by calendar would predict."""
    return np.asarray(np.clip(usual - hours_since_repair(rows), 0, _HOURS))


def judge_real(path: Path) -> dict[str, list[Judged]]:
    """Measure on the last fifth of the parts, without and with the columns that leak."""
    frame = read_parts(path)
    label, order = "machine_failure", "udi"
    sensed = [name for name in frame.column_names if name not in (label, order, "product_id", *LEAKS)]
    rules = {"wear of the tool times torque": overstrain}
    honest = compare(hold_out(frame, label, order, features=sensed, **_HOW), label, rules, ("aucpr", "auc"))
    leaking = compare(hold_out(frame, label, order, features=[*sensed, *LEAKS], **_HOW), label, {}, ("aucpr", "auc"))
    title = f"{frame.num_rows:,} parts on one line (AI4I 2020)"
    return {title: honest, f"{title}, with the kinds of failure, which leak": leaking}


def read_parts(path: Path) -> pa.Table:
    """Read the file with names that XGBoost accepts: `Torque [Nm]` becomes `torque_nm`."""
    frame = csv.read_csv(path)
    names = ["_".join(re.findall(r"[a-z0-9]+", name.lower())) for name in frame.column_names]
    return frame.rename_columns(names)


def overstrain(rows: pa.Table) -> Numbers:
    return to_numbers(rows["tool_wear_min"]) * to_numbers(rows["torque_nm"])
