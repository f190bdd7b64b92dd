"""What `import penstock` gives a Python user: a project, the scoring of one interval, rows to train on."""
