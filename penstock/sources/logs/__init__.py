"""Log files: find new lines, land each once, read them by event time."""
