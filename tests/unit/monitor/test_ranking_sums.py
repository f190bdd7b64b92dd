"""Sums of rankings give what scikit-learn gives, whatever the partition of the groups."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from penstock.monitor.performance_sums import read_sums
from penstock.monitor.ranking_sums import RankingSums, sum_groups

row = st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(0, 3))  # group, score, relevance


@settings(deadline=None)
@given(rows=st.lists(row, max_size=60))
def test_ndcg_is_the_mean_over_the_groups_of_scikit_learns(rows: list[tuple[int, int, int]]) -> None:
    groups, scores, labels = (np.array([each[i] for each in rows], float) for i in range(3))

    parts = [sum_groups(scores[some], labels[some], groups[some]) for some in (groups < 3, groups >= 3)]
    added = read_sums(json.loads(json.dumps((parts[0] + parts[1]).as_json())))

    expected = [
        ndcg_score([labels[groups == g]], [scores[groups == g]]) if (groups == g).sum() > 1 else 1.0
        for g in np.unique(groups)
        if labels[groups == g].any()
    ]
    assert isinstance(added, RankingSums)
    assert (added.count, added.groups) == (len(rows), len(expected))
    if expected:
        found = added.metrics()["ndcg"]
        assert found.value == pytest.approx(np.mean(expected), abs=1e-9)
        if found.low is not None:
            assert 0 <= found.low <= found.value + 1e-12
    else:
        assert added.metrics() == {}
