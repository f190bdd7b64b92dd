"""Score requests over HTTP: a request's rows are a partition, and go through the same functions as those of a run."""
