"""Compare the scores of runs: histograms and the population stability index."""
