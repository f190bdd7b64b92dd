"""The steps of one run: plan, extract, validate, build features, decide, load, audit."""
