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
"""A state is told by a sign and a word, never by its colour alone."""
