"""Serve a pipeline of a place in this process."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.testclient import TestClient

from penstock.database.connections import Connector, Database
from penstock.privacy.masking import NO_MASKING, MaskingPolicy
from penstock.run.partition_options import PartitionOptions
from penstock.serving.application import ServingApplication
from penstock.serving.guard import Guard
from penstock.serving.lookups import Lookups
from penstock.serving.served_pipeline import ServedPipeline
from penstock.spec.pipeline import Pipeline
from penstock.spec.yaml_file import load_pipeline
from tests.driver import SETTINGS
from tests.shop import Place

HOST = "http://127.0.0.1"


def serve_pipeline(
    place: Place, pipeline: Pipeline | None = None, masking: MaskingPolicy = NO_MASKING
) -> ServedPipeline:
    """Return the pipeline of a place as a server has it, with its model."""
    databases: dict[str, Database] = {"shop": place.shop, "warehouse": place.warehouse}
    options = PartitionOptions(masking, 60)
    chosen = pipeline or load_pipeline(place.spec)
    served = ServedPipeline(chosen, Connector(databases.__getitem__, ()), place.registry, options)
    served.take_models()
    return served


@contextmanager
def client_of(*served: ServedPipeline, guard: Guard | None = None, **options: Any) -> Iterator[TestClient]:
    """Give a client of a server of these pipelines."""
    guard = guard or Guard(("127.0.0.1",))
    lookups = Lookups({each.name: each.pipeline for each in served}, SETTINGS, served[0].connect, served[0].registry)
    application = ServingApplication({each.name: each for each in served}, guard, lookups, **options)
    with TestClient(application.build(), HOST) as client:
        yield client
