"""One run as a document: its facts, the run card and the chart."""
