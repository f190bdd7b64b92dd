"""The four steps of a partition as tasks: extract, validate, score, load."""

from prefect import task

from penstock.resources.usage import PartitionMeter
from penstock.run_types import ExtractedRows, Features, Partition, Receipt, ScoredRows, ScoringRun
from penstock.spec.steps import ScoreStep
from penstock.tasks.process_resources import scoring_steps
from penstock.tasks.retries import ONCE, RETRIED


@task(name="extract", task_run_name="extract {partition.label}", **RETRIED)
def extract(run: ScoringRun, partition: Partition) -> ExtractedRows:
    """Read one slice of the primary source, and the other sources' rows.

    Raises:
        DatabaseUnavailable: retried.
        SourceError: the source is not as declared; not retried.
    """
    return scoring_steps(run.pipeline).extract(run, partition)


@task(name="validate", task_run_name="validate {partition.label}", **ONCE)
def validate(run: ScoringRun, partition: Partition, extracted: ExtractedRows, sample_share: float) -> Features:
    """Validate the rows, build the features, validate those.

    Raises:
        Halted: the key is not unique; not retried.
    """
    return scoring_steps(run.pipeline).validate(run, partition, extracted, sample_share)


@task(name="score", task_run_name="score {partition.label}", **RETRIED)
def score_rows(run: ScoringRun, partition: Partition, features: Features, sample_share: float) -> ScoredRows:
    """Score one validated partition with the run's pinned model version.

    Raises:
        ModelMismatch: the batch has no column for a feature of the manifest; not retried.
        ModelRefused: the model file is not what its manifest says; not retried.
    """
    return scoring_steps(run.pipeline).score(run, partition, features, sample_share)


@task(name="score-step", task_run_name="{step.name} {partition.label}", **RETRIED)
def add_step(run: ScoringRun, partition: Partition, features: Features, step: ScoreStep) -> Features:
    """Add the outputs of one of several models to the partition's rows.

    Raises:
        ModelMismatch: a column that the model takes is missing; not retried.
        ExpressionError: the step's condition cannot be evaluated; not retried.
    """
    return scoring_steps(run.pipeline).add_step(run, features, step)


@task(name="decide", task_run_name="decide {partition.label}", **ONCE)
def decide_rows(run: ScoringRun, partition: Partition, features: Features, sample_share: float) -> ScoredRows:
    """Evaluate `decide:` on the steps' outputs, and validate the result.

    Raises:
        ExpressionError: a decision cannot be evaluated; not retried.
    """
    return scoring_steps(run.pipeline).decide(run, partition, features, sample_share)


@task(name="load", task_run_name="load {partition.label}", **RETRIED)
def load_rows(
    run: ScoringRun,
    partition: Partition,
    scored: ScoredRows,
    seconds: dict[str, float],
    attempts: int,
    meter: PartitionMeter | None = None,
) -> Receipt:
    """Append the partition's rows to the history table, in one transaction.

    Raises:
        TakenOver: another run holds the interval now; not retried.
    """
    return scoring_steps(run.pipeline).load(run, partition, scored, seconds, attempts, meter)
