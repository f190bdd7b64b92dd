"""Log files: find new lines, land each once, and read them by event time."""
