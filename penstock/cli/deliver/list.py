"""`penstock deliver list`: what other systems got, and what they lack."""

from penstock.cli.arguments import AsJson, Limit, OptionalPipeline, Timezone
from penstock.cli.opening import open_ledger, open_settings
from penstock.cli.output import console, count, make_table, short, write_json


def show_deliveries(
    pipeline: OptionalPipeline = None, limit: Limit = 30, timezone: Timezone = None, as_json: AsJson = False
) -> None:
    """List deliveries to other systems, newest first, and the targets that do not get their rows."""
    from penstock.ledger.delivery_records import list_deliveries, list_failing
    from penstock.report.delivery import describe_failing, describe_reply
    from penstock.run_types import interval_label
    from penstock.timezones import describe_moment

    settings = open_settings()
    database, name = open_ledger(settings, pipeline)
    found, failing = list_deliveries(database, name, limit=limit), list_failing(database, name)
    if as_json:
        write_json({"deliveries": found, "failing": failing})
        return
    zone = timezone or settings.timezone
    if not found:
        console().print("no deliveries yet; a run makes them if the spec has `deliver`")
    else:
        table = make_table(
            *("target", "interval", "run", "state", "rows", "removals", "batches", "reply", "planned"),
            right=("rows", "removals", "batches"),
        )
        for each in found:
            batches = f"{each.acknowledged:,} of {each.batches:,}"
            run = short(each.run_id) if each.run_id else "–"
            counts = (count(each.upserts), count(each.deletes), batches)
            told = (describe_reply(each), describe_moment(each.planned_at, zone))
            table.add_row(each.target, interval_label(each.interval), run, each.state, *counts, *told)
        console().print(table)
    for target in failing:
        console().print(describe_failing(target, zone), style="yellow", markup=False, soft_wrap=True)
