"""Load slow libraries while the databases answer."""

import threading

from penstock.spec.pipeline import Pipeline


def warm_up(pipeline: Pipeline) -> None:
    """Load Great Expectations in the background if the pipeline has expectations."""
    if pipeline.expectations:
        threading.Thread(target=_load_engine, name="load great expectations", daemon=True).start()


def _load_engine() -> None:
    from penstock.quality import load_engine  # not above: it imports pandas

    load_engine()
