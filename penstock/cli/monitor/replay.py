"""`penstock monitor replay`: what other limits would have halted."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.arguments import AsJson, End, PipelineName, Start
from penstock.cli.opening import ledger_connector, open_pipeline, open_settings
from penstock.cli.output import console, make_table, short, write_json
from penstock.wording import plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.upkeep.replay import ReplayedRun

SHOWN = 40
"""Most lines of the table."""

NewExpectations = Annotated[
    list[str] | None,
    typer.Option("--expectation", metavar="LIMIT", help='A limit of a figure, as in "mean(score) < 0.2". Repeatable.'),
]
NewQuarantineLimit = Annotated[
    float | None,
    typer.Option("--quarantine-limit", min=0, max=1, help="Largest share of the rows that may be refused."),
]
NewDrift = Annotated[
    float | None,
    typer.Option("--drift", metavar="PSI", min=0.0001, help="PSI of a feature or a score that would halt the run."),
]


def replay_limits(
    pipeline: PipelineName,
    expectation: NewExpectations = None,
    quarantine_limit: NewQuarantineLimit = None,
    drift: NewDrift = None,
    start: Start = None,
    end: End = None,
    as_json: AsJson = False,
) -> None:
    """Say which past runs other limits would have halted, from the rows, counts and profiles that are stored.

    Of each interval the live run is judged, or where none is live the last one that the audit halted. The rows are
    those that were scored. The figures are max, mean, median, min, stdev and sum, of a score or a kept column.
    `--drift` judges all columns that the spec's `drift` watches.
    """
    from penstock.interval import as_utc
    from penstock.run.planning import refuse_empty_range
    from penstock.spec.drift import Drift
    from penstock.spec.figure_limits import read_limit
    from penstock.upkeep.replay import NewLimits, replay

    if not expectation and quarantine_limit is None and drift is None:
        raise typer.BadParameter("give an --expectation, a --quarantine-limit or a --drift")
    settings = open_settings()
    spec = open_pipeline(pipeline, settings)
    zone = spec.timezone
    refuse_empty_range(start, end, zone)
    watched = None if drift is None else (spec.drift or Drift()).with_psi(drift)
    limits = NewLimits(tuple(map(read_limit, expectation or ())), quarantine_limit, watched)
    database = ledger_connector(settings)(spec.destination.connection)
    bounds = (as_utc(moment, zone) if moment else None for moment in (start, end))
    found = list(replay(database, spec, limits, *bounds))
    if as_json:
        write_json([_run_object(each) for each in found])
    else:
        _print_runs(found)


def _print_runs(found: "Sequence[ReplayedRun]") -> None:
    from penstock.run_types import interval_label

    out = console()
    halted = [each for each in found if each.halts]
    lines = make_table("interval", "run", "state", "scored", "would have halted", right=("scored",))
    for each in halted[-SHOWN:]:
        run = each.run
        why = "\n".join(each.halts)
        lines.add_row(interval_label(run.interval), short(run.run_id), run.state, f"{run.rows_scored or 0:,}", why)
    if halted:
        out.print(lines)
    if len(halted) > SHOWN:
        out.print(f"the newest {SHOWN} of {len(halted):,} are shown; `--json` has all", markup=False)
    live = sum(each.run.state == "published" for each in halted)
    halts = f"{plural(len(halted), 'run')} of {len(found):,} would have halted"
    passed = sum(each.run.state != "published" for each in found) - (len(halted) - live)
    also = f"; {plural(passed, 'run')} that halted would pass these limits" if passed else ""
    out.print(f"{halts}, {live:,} of them published{also}", markup=False)
    uncounted = sum(not each.has_profiles for each in found)
    if uncounted:
        have = plural(uncounted, "run has", "runs have")
        out.print(f"{have} no profiles, so drift was not judged there", markup=False)


def _run_object(each: "ReplayedRun") -> dict[str, Any]:
    run = each.run
    return {
        "run_id": run.run_id,
        "interval_start": run.interval_start,
        "interval_end": run.interval_end,
        "state": run.state,
        "rows_scored": run.rows_scored,
        "would_halt": bool(each.halts),
        "has_profiles": each.has_profiles,
        "validations": [
            {"expectation": v.expectation, "outcome": v.outcome, "observed": v.observed, "evaluated": v.evaluated}
            for v in each.validations
        ],
    }
