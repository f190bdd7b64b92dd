"""The pipeline's spec, and how to read it from YAML."""
