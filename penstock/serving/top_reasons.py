"""The features that moved the scores of a request most, by exact contributions."""

from typing import Any

from penstock.explain.reasons import explain_rows
from penstock.privacy.masking import MaskingPolicy
from penstock.serving.scored_request import ScoredRequest
from penstock.spec.pipeline import Pipeline
from penstock.spec.reasons import Reasons


def find_top_reasons(pipeline: Pipeline, scored: ScoredRequest, masking: MaskingPolicy) -> list[list[dict[str, Any]]]:
    """Return the reasons of each scored row, in the order of its rows.

    Args:
        pipeline: with the texts, the number and the direction of its `reasons`. Without them both directions count.
        masking: hides values of private features.

    Raises:
        NotAdditive: the contributions of a row do not add up to its margin.
    """
    wanted = pipeline.reasons or Reasons(when="true")
    rows = scored.features_and_scores
    made = explain_rows(scored.pipeline, wanted, rows, scored.deciding, masking).to_pylist()
    by_key: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    key = scored.pipeline.key
    for reason in made:
        by_key.setdefault(tuple(reason[c] for c in key), []).append(
            {name: reason[name] for name in ("feature", "contribution", "value", "text")}
        )
    return [by_key[tuple(row.values())] for row in rows.select(list(key)).to_pylist()]
