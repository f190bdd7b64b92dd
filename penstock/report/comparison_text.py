"""Lines about a comparison, as the command and the page have them."""

from penstock.monitor.agreement import RankAgreement
from penstock.report.comparison import Comparison
from penstock.report.labelled_rows import LabelledAgreement
from penstock.wording import plural


def describe_left_out(comparison: Comparison) -> list[str]:
    """Say what has no counterpart, and so is in no figure."""
    paired, columns = comparison.paired, comparison.columns
    lines = []
    for side, only in ((paired.a, paired.only_a), (paired.b, paired.only_b)):
        if only:
            lines.append(f"{plural(len(only), 'more interval')} of {side.name} without a counterpart")
        if side.pruned:
            lines.append(f"the rows of {side.name} were pruned in {plural(len(side.pruned), 'interval')}")
    if paired.same:
        lines.append(f"{plural(len(paired.same), 'interval')} left out, since both names stand for the same run")
    for name, only_there in (("A", columns.only_a), ("B", columns.only_b)):
        if only_there:
            lines.append(f"only {name} has values of {', '.join(f'`{column}`' for column in only_there)}")
    return lines


def describe_ranks(ranks: RankAgreement) -> str:
    """Say how far the places of rows differ in the groups of a ranking model."""
    named = " and ".join(f"`{name}`" for name in ranks.group)
    if ranks.missing:
        return f"`{ranks.column}` ranks the rows of {named}; with that in `keep`, the places in later runs are compared"
    if not ranks.groups or ranks.mean_change is None:
        return f"`{ranks.column}` ranks the rows of {named}, and no group has two rows in both"
    share = ranks.same_first / ranks.groups
    first = f"{share:.1%} of {plural(ranks.groups, 'group')} have the same first row"
    return f"`{ranks.column}` ranks the rows of {named}: {first}, and a row moves by {ranks.mean_change:.2f} places"


def describe_labelled(labelled: LabelledAgreement) -> str:
    """Say which score is judged by labels, and how many of its rows have one."""
    share = f"{labelled.judged:,} of {plural(labelled.rows, 'row')}"
    return f"`{labelled.column}` by the labels of the same rows, {share}"
