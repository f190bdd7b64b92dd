"""The Python interface: a project, the scoring of one interval, rows to train on."""
