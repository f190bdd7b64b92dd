"""The four steps of a partition as tasks: extract, validate, score, load. The work is in `penstock.run` and `models`.

pandas and DuckDB are imported inside the steps that need them, so that a run with nothing to do starts quickly.
"""

from prefect import task

from penstock.resources.usage import PartitionMeter
from penstock.run.extract import extract_partition
from penstock.run.load import load_partition
from penstock.run_types import ExtractedRows, Features, Partition, Receipt, ScoredRows, ScoringRun
from penstock.spec.steps import ScoreStep
from penstock.tasks.process_resources import connect, connector, partition_options, registry
from penstock.tasks.retries import ONCE, RETRIED


@task(name="extract", task_run_name="extract {partition.label}", **RETRIED)
def extract(run: ScoringRun, partition: Partition) -> ExtractedRows:
    """Read one slice of the primary source, and the other sources' rows.

    Raises:
        DatabaseUnavailable: retried.
        SourceError: the source is not as declared; not retried.
    """
    return extract_partition(run, partition, connector())


@task(name="validate", task_run_name="validate {partition.label}", **ONCE)
def validate(run: ScoringRun, partition: Partition, extracted: ExtractedRows, sample_share: float) -> Features:
    """Judge the rows, build the features, judge those.

    Raises:
        Halted: the key is not unique; not retried.
    """
    from penstock.run.validate import validate_partition

    return validate_partition(run, partition, extracted, partition_options(run.pipeline, sample_share))


@task(name="score", task_run_name="score {partition.label}", **ONCE)
def score_rows(run: ScoringRun, partition: Partition, features: Features, sample_share: float) -> ScoredRows:
    """Score one validated partition with the run's pinned model version.

    Raises:
        ModelMismatch: the batch lacks a feature of the manifest; not retried.
        ModelRefused: the model file is not what its manifest says; not retried.
    """
    from penstock.models.scoring import score_features

    model = registry().load(run.model)
    return score_features(run, partition, features, model, partition_options(run.pipeline, sample_share))


@task(name="score-step", task_run_name="{step.name} {partition.label}", **ONCE)
def add_step(run: ScoringRun, partition: Partition, features: Features, step: ScoreStep) -> Features:
    """Add the outputs of one of several models to the partition's rows.

    Raises:
        ModelMismatch: an input of the model is missing; not retried.
        ExpressionError: the step's condition cannot be evaluated; not retried.
    """
    from penstock.models.chain import score_step

    model = registry().load(run.steps[step.name])
    return score_step(run.pipeline, features, step, model, partition_options(run.pipeline))


@task(name="decide", task_run_name="decide {partition.label}", **ONCE)
def decide_rows(run: ScoringRun, partition: Partition, features: Features, sample_share: float) -> ScoredRows:
    """Make the decisions from the steps' outputs, and judge the rows.

    Raises:
        ExpressionError: a decision cannot be evaluated; not retried.
    """
    from penstock.models.chain import judge_steps

    return judge_steps(run, partition, features, partition_options(run.pipeline, sample_share))


@task(name="load", task_run_name="load {partition.label}", **RETRIED)
def load_rows(
    run: ScoringRun,
    partition: Partition,
    scored: ScoredRows,
    seconds: dict[str, float],
    attempts: int,
    meter: PartitionMeter | None = None,
) -> Receipt:
    """Write the partition's rows to the history table, once, in one transaction.

    Raises:
        TakenOver: another run has taken the interval; not retried.
    """
    return load_partition(
        connect(run.pipeline.destination.connection), run, partition, scored, seconds, attempts, meter
    )
