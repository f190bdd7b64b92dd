"""`penstock models gate`: would the challenger of a model be promoted now, and why not."""

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from penstock.cli.arguments import AsJson, ModelName, Timezone
from penstock.cli.opening import ledger_connector, open_models, open_settings
from penstock.cli.output import console, make_table, write_json

if TYPE_CHECKING:
    from penstock.ledger.promotions import PromotionRecord
    from penstock.promotion.decision import Decision
    from penstock.promotion.evidence import Evidence

GATE_EXIT = 3
"""The exit code of a challenger that does not meet the requirements, as of a run that a gate halted."""


def show_gate(name: ModelName, timezone: Timezone = None, as_json: AsJson = False) -> None:
    """Check now whether the challenger of a model meets the requirements of `promotion:`. Nothing is written.

    The exit code is 3 if it does not.
    """
    from penstock.ledger.promotions import list_promotions
    from penstock.promotion.advance import Caller, Promoter
    from penstock.promotion.decision import decide
    from penstock.promotion.evidence import EvidenceReader
    from penstock.promotion.specs import find_promoting

    settings = open_settings()
    promoting = find_promoting(settings.pipelines, name)
    promoter = Promoter(EvidenceReader(promoting, settings, ledger_connector(settings), open_models(settings)))
    facts = promoter.look(Caller("", datetime.now(UTC)))
    decision, evidence = decide(facts), facts.evidence
    asked = list_promotions(promoter.ledger, name, promoting.alias)
    if as_json:
        write_json(_as_object(decision, evidence, asked))
    else:
        _print_gate(decision, evidence, asked[:1], timezone or settings.timezone)
    raise typer.Exit(GATE_EXIT if evidence is not None and not evidence.passed else 0)


def _print_gate(decision: "Decision", evidence: "Evidence | None", asked: "list[PromotionRecord]", zone: str) -> None:
    from penstock.timezones import describe_moment

    out = console()
    if evidence is not None:
        title = f"{evidence.model}@{evidence.alias}: {evidence.champion} → {evidence.candidate}"
        table = make_table("pipeline", "requirement", "wanted", "found", "", title=title)
        for each in evidence.pipelines:
            for check in each.checks:
                row = (each.pipeline, check.requirement, check.wanted, check.found)
                table.add_row(*row, "✓" if check.passed else "✗")
        out.print(table)
    for record in asked:
        line = f"{record.label}: {record.state}, asked at {describe_moment(record.asked_at, zone)}"
        who = f", answered by {record.answered_by}" if record.answered_by else ""
        out.print(f"{line}{who}{f'; {record.why}' if record.why else ''}", markup=False, soft_wrap=True)
    out.print(_describe_next(decision), markup=False, soft_wrap=True)


def _describe_next(decision: "Decision") -> str:
    """Say what the next run of the flow would do, and why."""
    match decision.step:
        case "ask":
            return f"the flow would ask: {decision.why}"
        case "lapse" | "outdate":
            return f"the flow would end this question and look again: {decision.why}"
        case "move":
            return f"the flow would move the alias: {decision.why}"
        case _:
            return decision.why


def _as_object(decision: "Decision", evidence: "Evidence | None", asked: "list[PromotionRecord]") -> dict[str, Any]:
    """Return the gate and every question about the alias, the newest first, each with its evidence."""
    return {
        "would": decision.step,
        "why": decision.why,
        "passed": evidence.passed if evidence else None,
        "evidence": json.loads(evidence.to_json()) if evidence else None,
        "promotions": [vars(record) | {"evidence": json.loads(record.evidence)} for record in asked],
    }
