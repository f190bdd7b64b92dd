"""The evidence of a question as text for people."""

import json
from collections.abc import Iterator
from typing import Any

from penstock.ledger.promotions import PromotionRecord
from penstock.timezones import describe_moment
from penstock.wording import plural

TYPED = "Prefect does not know who answers: the name is what somebody types."
SHOWN_DIGEST = 12


def evidence_card(record: PromotionRecord) -> str:
    """Return the evidence of a promotion as markdown."""
    document: dict[str, Any] = json.loads(record.evidence)
    lines = [
        f"# {record.label}: {record.champion} → {record.candidate}",
        "",
        _describe_aim(record),
        "",
        f"Evidence `{record.digest[:SHOWN_DIGEST]}`, as of {describe_moment(record.asked_at)}. {TYPED}",
    ]
    for each in document["pipelines"]:
        lines += ["", f"## {each['pipeline']}", "", *_write_pipeline(each)]
    return "\n".join(lines)


def _write_pipeline(found: dict[str, Any]) -> Iterator[str]:
    runs = found["runs"]
    spans = f"{runs[0]['interval']} to {runs[-1]['interval']}" if len(runs) > 1 else runs[0]["interval"]
    yield f"{plural(len(runs), 'interval')} ({spans}), {plural(found['rows'], 'row')} scored by both."
    yield ""
    yield "| requirement | wanted | found | |"
    yield "|---|---|---|---|"
    for check in found["checks"]:
        yield f"| {check['requirement']} | {check['wanted']} | {check['found']} | {'✓' if check['passed'] else '✗'} |"


def describe_question(record: PromotionRecord) -> str:
    """Return the text above the form, as markdown."""
    document: dict[str, Any] = json.loads(record.evidence)
    checks = [
        f"- {each['pipeline']}: {check['requirement']} {check['found']} (wanted: {check['wanted']})"
        for each in document["pipelines"]
        for check in each["checks"]
    ]
    until = f"An answer counts until {describe_moment(record.answer_until)}. {TYPED}"
    return "\n".join([f"{_describe_aim(record)} Evidence `{record.digest[:SHOWN_DIGEST]}`:", "", *checks, "", until])


def _describe_aim(record: PromotionRecord) -> str:
    return (
        f"Shall `{record.model}@{record.alias}` move from {record.model}/{record.champion} to "
        f"{record.model}/{record.candidate}?"
    )
