"""The signs of states, for the run card and the pages."""

MARKS = {
    "published": "✓",
    "acknowledged": "✓",
    "restated": "↻",
    "audited": "•",
    "passed": "✓",
    "vacuous": "∅",
    "noted": "•",
    "quarantined": "⚠",
    "halted": "✗",
    "failed": "✗",
    "abandoned": "✗",
    "missing": "!",
    "running": "…",
    "withdrawn": "–",
    "skipped": "–",
    "critical": "✗",
    "warning": "⚠",
    "info": "•",
}
"""The sign that is shown before the word of a state, because not everyone sees its colour."""
