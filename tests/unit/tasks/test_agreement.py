"""Workers that have another key than the flow."""

from dataclasses import replace

from penstock.spec.yaml_file import parse_pipeline
from penstock.tasks.agreement import Agreement, list_differences
from penstock.tasks.worker_facts import CARRYING, DECIDING, Question, WorkerFacts
from tests.shop import SPEC

PACKAGES = dict.fromkeys(("penstock", *DECIDING, *CARRYING), "1")


def test_a_worker_with_another_key_of_the_seals_is_refused() -> None:
    pipeline = parse_pipeline((SPEC + "seal: true\n").encode(), "x.yaml")
    facts = WorkerFacts("host", "/", "3.11.1", PACKAGES, "code", "", "digest", "cpu", 60, {}, {}, {})
    agreement = Agreement("dask", Question(pipeline, {}, b"salt", "/", {}), facts)

    assert list_differences(agreement, facts, "worker") == ()
    [found] = list_differences(agreement, replace(facts, seal_secret="another"), "worker")
    assert found.what.startswith("PENSTOCK_SEAL_KEY is another one")
