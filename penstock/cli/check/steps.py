"""Test a pipeline's models, conditions and decisions on sample rows of its features."""

from typing import TYPE_CHECKING

from penstock.cli.check.report import CheckReport, SampleSize
from penstock.wording import plural

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from penstock.models.booster import ModelVersion
    from penstock.run.partition_options import PartitionOptions
    from penstock.spec.pipeline import Pipeline
    from penstock.spec.steps import ScoreStep


def subject_of(pipeline: "Pipeline", step: "ScoreStep") -> str:
    """Return the subject of report about a step."""
    return f"step `{step.name}`" if pipeline.models else "model"


def check_steps(
    pipeline: "Pipeline",
    models: "Mapping[str, ModelVersion]",
    sample: "pa.Table",
    size: SampleSize,
    options: "PartitionOptions",
    report: CheckReport,
) -> "pa.Table | None":
    """Score the sample with every step and try the decisions. The first failing step ends the check.

    Returns:
        The rows as they would be judged: key, outputs, decisions and kept columns.
    """
    import pyarrow as pa

    if pipeline.models:
        rows = _try_steps(pipeline, models, sample, size, options, report)
    else:
        rows = _try_model(pipeline, models[pipeline.steps[0].name], sample, size, options, report)
    if rows is None:
        return None
    features, outputs = rows
    parts = [outputs]
    if pipeline.decide:
        decided = _try_decisions(pipeline, rows, options, report)
        if decided is None:
            return None
        parts.append(decided)
    _try_reasons(pipeline, models, (features, *parts), options, report)
    kept = dict.fromkeys((*pipeline.key, *pipeline.destination.keep))
    parts.append(features.select([c for c in kept if c in features.column_names]))
    names = [name for part in parts for name in part.column_names]
    judged = pa.table([column for part in parts for column in part.columns], names=names)
    _try_deliveries(pipeline, judged, options, report)
    return judged


def _try_model(
    pipeline: "Pipeline",
    model: "ModelVersion",
    sample: "pa.Table",
    size: SampleSize,
    options: "PartitionOptions",
    report: CheckReport,
) -> "tuple[pa.Table, pa.Table] | None":
    """Return the rows that the model accepts, and its outputs."""
    import pyarrow as pa

    with report.about("model"):
        model.check_columns(sample.column_names)
        report.ok("model", f"its {plural(len(model.manifest.features), 'feature')} are there")
        refused = model.refused_rows(sample)
        first = [options.masking.mask_reason(misfits[0]).text for misfits in refused.values()]
        _note_refused("model", first, size, report)
        taken = sample.take(pa.array([row for row in range(sample.num_rows) if row not in refused], pa.int64()))
        return taken, model.score(taken)
    return None


def _try_steps(
    pipeline: "Pipeline",
    models: "Mapping[str, ModelVersion]",
    sample: "pa.Table",
    size: SampleSize,
    options: "PartitionOptions",
    report: CheckReport,
) -> "tuple[pa.Table, pa.Table] | None":
    """Return the rows that every step accepts, and the outputs of all steps."""
    from penstock.models.chain import score_step
    from penstock.run_types import Features

    rows = Features(sample, sample.num_rows, 0, (), ())
    for step in pipeline.steps:
        subject, model, before = subject_of(pipeline, step), models[step.name], rows
        with report.about(subject):
            rows = score_step(pipeline, before, step, model, options)
        if rows is before:
            return None
        report.ok(subject, f"its {plural(len(model.manifest.features), 'feature')} are there")
        if step.when is not None:
            scored = rows.table.num_rows - rows.table[rows.output_columns[-1]].null_count
            report.ok(subject, f"scores {scored} of {rows.table.num_rows} sample rows: {step.when}")
        refused = rows.refusals[len(before.refusals) :]
        _note_refused(subject, [refusal.reasons[0].text for refusal in refused], size, report)
    outputs = rows.output_columns
    return rows.table.drop_columns(outputs), rows.table.select(outputs)


def _note_refused(subject: str, reasons: "Sequence[str]", size: SampleSize, report: CheckReport) -> None:
    if reasons:
        report.refused(subject, len(reasons), reasons[0], size)


def _try_deliveries(pipeline: "Pipeline", rows: "pa.Table", options: "PartitionOptions", report: CheckReport) -> None:
    """Choose the rows that each target would get, and look for its columns."""
    import pyarrow.compute as pc

    from penstock.run.decisions import choose_delivered

    for target in pipeline.deliver:
        subject = f"deliver `{target.name}`"
        with report.about(subject):
            for column in target.columns:
                if column not in rows.column_names:
                    report.problem(subject, f"no model gives `{column}`, and it is not kept")
            chosen = rows.num_rows
            if target.where is not None:
                where = choose_delivered(pipeline, target.name, target.where, rows, options.statement_seconds)
                chosen = pc.sum(where).as_py() or 0
            report.ok(subject, f"gets {chosen} of {plural(rows.num_rows, 'sample row')}")


def _try_reasons(
    pipeline: "Pipeline",
    models: "Mapping[str, ModelVersion]",
    parts: "Sequence[pa.Table]",
    options: "PartitionOptions",
    report: CheckReport,
) -> None:
    """Try the condition of `reasons`, and check its texts."""
    if pipeline.reasons is None:
        return
    import pyarrow as pa
    import pyarrow.compute as pc

    from penstock.explain.reasons import check_texts
    from penstock.run.decisions import choose_explained

    with report.about("reasons"):
        check_texts(pipeline, models[pipeline.steps[-1].name].manifest)
        named = [(name, part[name]) for part in parts for name in part.column_names]
        rows = pa.table([column for _, column in named], names=[name for name, _ in named])
        chosen = pc.sum(choose_explained(pipeline, pipeline.reasons.when, rows, options.statement_seconds)).as_py() or 0
        report.ok("reasons", f"explains {chosen} of {plural(rows.num_rows, 'sample row')}: {pipeline.reasons.when}")


def _try_decisions(
    pipeline: "Pipeline", rows: "tuple[pa.Table, pa.Table]", options: "PartitionOptions", report: CheckReport
) -> "pa.Table | None":
    from penstock.models.scoring import decide

    with report.about("decide"):
        decided = decide(pipeline, *rows, options.statement_seconds)
        columns = ", ".join(f"`{field.name}` ({field.type})" for field in decided.schema)
        report.ok("decide", f"gives {columns}")
        return decided
    return None
