"""Say in sentences what a plan leaves out, and why."""

from penstock.interval import iso
from penstock.ledger.coverage import LiveScores
from penstock.run.planning import Plan
from penstock.wording import plural


def describe_idle(plan: Plan) -> str:
    """Say why there is nothing to score."""
    if plan.stall:
        return f"nothing to do yet: {plan.stall}"
    missed = f"; {describe_passed_over(plan)}" if plan.passed_over else ""
    if not plan.published and not plan.withdrawn:
        return f"nothing to do: {_describe_none(plan)}{missed}"
    message = f"nothing to do: {describe_published(plan)}" if plan.published else "nothing to do"
    if plan.withdrawn:
        message += f", {describe_withdrawn(plan)}"
    cut = describe_range(plan)
    return message + missed + (f"; {cut}" if cut else "")


def describe_published(plan: Plan) -> str:
    """Say how many intervals are left alone."""
    return f"{plural(plan.published, 'interval')} {'is' if plan.published == 1 else 'are'} published already"


def describe_withdrawn(plan: Plan) -> str:
    """Say how many intervals were withdrawn and not scored again."""
    are, them = ("is", "it") if plan.withdrawn == 1 else ("are", "them")
    return f"{plural(plan.withdrawn, 'interval')} {are} withdrawn (only a restate scores {them} again)"


def describe_replaced(live: LiveScores) -> str:
    """Say what readers see now of the intervals that are scored again."""
    scores, of_runs = plural(live.rows, "score"), plural(live.runs, "run")
    return f"replaced when they are published: {scores} of {of_runs} by {', '.join(live.models)}, which readers see now"


def describe_left_over(plan: Plan) -> str:
    """Say how many due intervals a run leaves for a later one."""
    are = "is" if plan.left_over == 1 else "are"
    return f"{plural(plan.left_over, 'more interval')} {are} due and left for a later run"


def describe_passed_over(plan: Plan) -> str:
    """Say what `catch_up: latest` leaves out."""
    are = "is" if plan.passed_over == 1 else "are"
    missed = f"{plural(plan.passed_over, 'missed interval')} {are} left out by `catch_up: latest`"
    return f"{missed}; a backfill scores {'it' if plan.passed_over == 1 else 'them'}"


def describe_range(plan: Plan) -> str:
    """Say what a requested range has that no run can score. Empty if nothing was left out, or the whole range was."""
    limits = plan.limits
    if limits is None or limits.too_early or limits.too_late:
        return ""
    notes = []
    if limits.start is not None and limits.start < limits.first:
        notes.append(f"the pipeline starts at {iso(limits.first, limits.zone)}, so the range begins there")
    if limits.end is not None and limits.end > limits.over:
        notes.append(f"no interval after {iso(limits.over, limits.zone)} is over yet, so the range ends there")
    return "; ".join(notes)


def _describe_none(plan: Plan) -> str:
    """Say why no interval at all can be scored."""
    limits = plan.limits
    if limits is None or not (limits.too_early or limits.too_late):
        return "no interval is due"
    first, over = (iso(moment, limits.zone) for moment in (limits.first, limits.over))
    if limits.too_early:
        return f"the whole range is before the pipeline's start, {first}"
    what = "no interval of the range is over yet" if limits.start or limits.end else "no interval is over yet"
    last = f"the last one that is over ended at {over}, and " if limits.over > limits.first else ""
    return f"{what}; {last}the pipeline starts at {first}"
