"""Load Great Expectations while rows are being read."""

import threading

from penstock.spec.pipeline import Pipeline


def warm_up(pipeline: Pipeline) -> None:
    """Load Great Expectations in the background if it judges expectations of the pipeline."""
    from penstock.quality import needs_great_expectations  # not above: it imports pandas

    if needs_great_expectations(pipeline):
        # Great Expectations imports it. Meanwhile the queries of other threads would find it half loaded.
        import sqlalchemy.orm  # noqa: F401

        threading.Thread(target=_load_engine, name="load great expectations", daemon=True).start()


def _load_engine() -> None:
    from penstock.quality import load_engine

    load_engine()
