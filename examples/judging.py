"""Measure scores: on a holdout beside a constant and a simple rule, and against delivered labels."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import sqlalchemy as sa

from penstock import ModelVersion, Project, Registry, Trained, train
from penstock.examples.pack import Pack

Numbers = npt.NDArray[np.float64]
Metric = Callable[[Numbers, Numbers], float]
"""Takes what happened and the score of it."""
Rule = Callable[[pa.Table], Numbers]
"""A score by a simple rule. A higher score means a higher expected outcome."""


def aucpr(actual: Numbers, score: Numbers) -> float:
    """Average precision. Rows of equal score count together. A constant score gives the share of positives."""
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(actual[order])
    ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    precision, recall = hits[ends] / (ends + 1), hits[ends] / max(hits[-1], 1)
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def auc(actual: Numbers, score: Numbers) -> float:
    """Share of pairs in which the positive row has the higher score. A tie counts half."""
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positive = actual > 0
    n, m = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * m)) if n and m else float("nan")


def rmse(actual: Numbers, score: Numbers) -> float:
    return float(np.sqrt(np.mean((actual - score) ** 2)))


def mae(actual: Numbers, score: Numbers) -> float:
    return float(np.mean(np.abs(actual - score)))


def ndcg_at_5(actual: Numbers, score: Numbers) -> float:
    """Return the discounted gain of a group's first five rows, as a share of the best order. Ties are drawn."""
    lot = np.random.default_rng(len(actual)).random(len(actual))
    weight = 1 / np.log2(np.arange(2, 7))
    found, best = actual[np.lexsort((lot, -score))][:5], -np.sort(-actual)[:5]
    return float((found * weight[: len(found)]).sum() / (best * weight[: len(best)]).sum())


METRICS: dict[str, Metric] = {"aucpr": aucpr, "auc": auc, "rmse": rmse, "mae": mae, "ndcg@5": ndcg_at_5}


def judge(metric: str, rows: pa.Table, actual: Numbers, score: Numbers, group: Sequence[str] = ()) -> float:
    """Return one figure. With `group`, the mean over the groups of rows in which anything is positive."""
    if not group:
        return METRICS[metric](actual, score)
    places: Any = rows.select(list(group)).to_pandas().groupby(list(group), sort=False).indices.values()
    return float(np.mean([METRICS[metric](actual[at], score[at]) for at in places if actual[at].any()]))


@dataclass(frozen=True)
class Judged:
    """One way to score, and how good it is on the holdout."""

    name: str
    figures: Mapping[str, float]


@dataclass(frozen=True)
class Holdout:
    """The last rows in the order of time. Neither the model nor its parameters were chosen by them."""

    learned: pa.Table
    held: pa.Table
    trained: Trained
    refused: int
    """Number of held-out rows that a run would quarantine (an unseen category, for example). They have no score."""


def hold_out(frame: pa.Table, label: str, order_by: str, share: float = 0.2, **how: Any) -> Holdout:
    """Hold the last rows out and train on the others. The last of these choose the number of trees.

    Args:
        how: More arguments of `penstock.train`.
    """
    ordered = frame.sort_by(order_by)
    learned = ordered.slice(0, ordered.num_rows - round(ordered.num_rows * share))
    trained = train(learned, label, holdout=share, order_by=order_by, **how)
    held = ordered.slice(learned.num_rows)
    with _registered(trained) as version:
        refused = list(version.refused_rows(held))
    return Holdout(learned, held.take(np.delete(np.arange(held.num_rows), refused)), trained, len(refused))


def compare(
    holdout: Holdout, label: str, rules: Mapping[str, Rule], metrics: Sequence[str], group: Sequence[str] = ()
) -> list[Judged]:
    """Measure the model, the rules, and the mean label of the training rows as a constant."""
    actual = to_numbers(holdout.held[label])
    constant = np.full(len(actual), to_numbers(holdout.learned[label]).mean())
    scores = {"model": score_rows(holdout.trained, holdout.held), "constant": constant}
    scores |= {name: rule(holdout.held) for name, rule in rules.items()}
    held = holdout.held
    return [Judged(name, {m: judge(m, held, actual, score, group) for m in metrics}) for name, score in scores.items()]


def score_rows(trained: Trained, rows: pa.Table) -> Numbers:
    """Score rows as a run does: with a registered and verified version."""
    with _registered(trained) as version:
        return to_numbers(version.score(rows)["score"])


@contextmanager
def _registered(trained: Trained) -> Iterator[ModelVersion]:
    with TemporaryDirectory() as folder:
        registry = Registry(Path(folder))
        manifest = trained.register(registry, "judged")
        yield registry.load(registry.resolve(f"{manifest.name}@{manifest.version}"))


def judge_published(project: Project, pack: Pack, pipeline: str) -> tuple[int, float]:
    """Return the number of live rows with a label, and the metric over them. NaN if there are none."""
    spec, labels = project.load_pipeline(pipeline), pack.labels[pipeline]
    key = list(spec.key)
    live = sa.table(spec.destination.table, *(sa.column(name) for name in (*key, labels.score)))
    known = sa.table(labels.table, *(sa.column(name) for name in (*key, labels.column)))
    scores = project.query(spec.destination.connection, sa.select(live))
    truth = project.query(labels.connection, sa.select(known).where(known.c[labels.column].is_not(None)))
    joined = scores.join(truth, key, join_type="inner")
    if not joined.num_rows:
        return 0, float("nan")
    actual, score = to_numbers(joined[labels.column]), to_numbers(joined[labels.score])
    return joined.num_rows, judge(labels.metric, joined, actual, score, labels.group)


def to_numbers(column: "pa.ChunkedArray[Any]") -> Numbers:
    """Return a column as float64. NULL becomes NaN, true becomes 1."""
    return np.asarray(column.cast(pa.float64()).to_numpy(), np.float64)


def to_markdown(judged: Sequence[Judged]) -> str:
    """Write the figures as a Markdown table."""
    names = list(judged[0].figures)
    rows = [f"| {j.name} | " + " | ".join(f"{j.figures[n]:.3f}" for n in names) + " |" for j in judged]
    return "\n".join([f"| score | {' | '.join(names)} |", "|---|" + "---:|" * len(names), *rows])
