"""Documents: files that are one row each, as text or as facts about their bytes. See docs/adr/0027."""
