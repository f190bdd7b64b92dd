"""Import scikit-learn Pipelines: read them without a pickle, write them as SQL and a model, verify both."""
