"""Check one pipeline from its spec to its model's features. A problem does not stop the other checks."""

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from penstock.cli.check.expectations import Trial
from penstock.cli.check.labels import check_labels
from penstock.cli.check.promotion import check_promotion
from penstock.cli.check.report import CheckReport, SampleSize
from penstock.cli.check.samples import Sample, Sampler, choose_interval
from penstock.cli.check.serving import check_serving
from penstock.cli.check.steps import subject_of
from penstock.cli.check.targets import check_target_columns, check_targets
from penstock.cli.opening import connector, open_models, open_pipeline
from penstock.cli.output import count
from penstock.wording import plural

if TYPE_CHECKING:
    import pyarrow as pa

    from penstock.cli.check.write_spec import Guess
    from penstock.database.connections import Connector, Database
    from penstock.interval import DataInterval
    from penstock.models.booster import ModelVersion
    from penstock.settings import Settings
    from penstock.spec.pipeline import Pipeline


def check_pipeline(
    name: str,
    settings: "Settings",
    *,
    accept: bool = False,
    write: bool = False,
    start: datetime | None = None,
    end: datetime | None = None,
) -> CheckReport:
    """Check the pipeline of a name or a path on rows of one interval.

    Args:
        accept: make its sources' present columns their contract.
        write: write guesses into the pipeline file, and replace deprecated keys.
        start: with `end`: sample rows of the newest interval that touches `[start, end)`.
    """
    from penstock.privacy.masking import MaskingPolicy

    report = CheckReport(name)
    spec: Pipeline | None = None
    with report.about("spec"):
        spec = open_pipeline(name, settings)
    if spec is None:
        return report
    interval: DataInterval | None = None
    with report.about("range"):
        interval = choose_interval(spec, datetime.now(UTC), start, end)
    if report.problems:
        return report
    report.ok("spec", f"{plural(len(spec.sources), 'source')}, primary `{spec.primary}`")
    with TemporaryDirectory(prefix="penstock-") as folder:  # text files are staged once for all that reads them
        connect = replace(connector(settings), run_folder=Path(folder))
        trial = Trial(spec, MaskingPolicy(spec.private_columns), report)
        check = _Check(spec, settings, connect, report, interval, trial)
        check.check_privacy()
        check_serving(spec, settings, connect, report)
        check.check_destination()
        check.check_seal()
        check_targets(spec, settings, connect, report)
        if accept:
            check.accept_columns(start)
        guesses = check.show_guesses(start)
        if write:
            check.write_guesses(name, guesses)
        samples = check.read_samples()
        features = check.build_features(samples) if samples is not None else None
        models = check.load_models()
        if models:
            check.check_names(models)
            check.check_drift(models)
            check.check_challengers(models, features)
            check_promotion(spec, settings, next(iter(models.values())).manifest, report)
        check_labels(spec, settings, connect, models, report)
        check.compare_columns(models, accept=accept)
        if samples is not None and features is not None:
            check.check_contract(samples, features, models)
            check.check_history(features)
        trial.conclude()
    return report


@dataclass(frozen=True)
class _Check:
    pipeline: "Pipeline"
    settings: "Settings"
    connect: "Connector"
    report: CheckReport
    interval: "DataInterval | None"
    trial: Trial

    def check_privacy(self) -> None:
        """Check that private columns can be hashed."""
        from penstock.privacy.masking import make_masking

        with self.report.about("private"):
            hidden = make_masking(self.pipeline, self.settings).columns
            if hidden:
                self.report.ok("private", f"{', '.join(sorted(hidden))} are never shown")

    def check_seal(self) -> None:
        """Check that rows can be sealed, under a key that the rows before had."""
        from penstock.ledger.destinations import LIVE
        from penstock.ledger.migrations import has_ledger
        from penstock.seals.keys import read_seal_keys
        from penstock.seals.stored import require_newest_key

        if not self.pipeline.seal:
            return
        with self.report.about("seal"):
            keys = read_seal_keys(self.settings, f"`{self.pipeline.name}` seals its rows")
            database = self.connect(self.pipeline.destination.connection)
            if database.missing_file is None and has_ledger(database):
                require_newest_key(database, self.pipeline.name, LIVE, keys)
            self.report.ok("seal", f"rows are sealed under the key {keys.current.id}")

    def check_destination(self) -> None:
        """Connect to the warehouse, and check that the live view's name is free."""
        import sqlalchemy as sa

        destination = self.pipeline.destination
        with self.report.about("destination"):
            database = self.connect(destination.connection)
            with database.reading() as connection:
                tables = sa.inspect(connection).get_table_names(schema=destination.schema_)
            if destination.table in tables:
                what = f"`{destination.table}` is already a table, but the view of the live rows needs this name"
                self.report.problem("destination", what)
            else:
                self._check_ledger(database)
                self.report.ok("destination", f"`{destination.table}` in `{destination.connection}`")

    def _check_ledger(self, database: "Database") -> None:
        """Raise what would refuse the next run: another owner, or live runs that the next intervals overlap."""
        from penstock.ledger.coverage import read_coverage
        from penstock.ledger.destinations import refuse_others
        from penstock.ledger.known_ledgers import refuse_lost
        from penstock.ledger.migrations import has_ledger
        from penstock.run.planning import PlanRequest, plan_intervals

        refuse_lost(database, self.settings.home)
        refuse_others(database, self.pipeline)
        if not has_ledger(database):
            return
        coverage = read_coverage(database, self.pipeline)
        plan_intervals(PlanRequest(self.pipeline, coverage, datetime.now(UTC), lambda _: ""))

    def read_samples(self) -> dict[str, Sample] | None:
        """Check every source and read a few rows of each. None if one cannot be read."""
        from penstock.cli.check.source import inspect_source
        from penstock.sources import open_source

        interval = self.interval
        sampler = Sampler(self.pipeline, interval, self.connect, self.report)
        samples: dict[str, Sample] = {}
        for name in self.pipeline.sources:
            subject = f"source `{name}`"
            with self.report.about(subject):
                self.report.ok(subject, inspect_source(self.pipeline, name, interval, self.connect))
                self._note_untested(subject, name)
                self._note_deprecated(subject, name)
                samples[name] = sampler.sample(name)
                if name == self.pipeline.primary:
                    self._note_timeless(
                        subject, open_source(self.pipeline, name, self.connect).count_without_time(interval)
                    )
                self.trial.judge(name, samples[name].rows, self._size(name, samples[name]))
        if len(samples) < len(self.pipeline.sources):
            return None
        self._check_key(samples[self.pipeline.primary].rows)
        return samples

    def show_guesses(self, start: datetime | None) -> "dict[str, Guess]":
        """Report how text files are read. A path with the interval in it may have no file now."""
        from penstock.cli.check.guesses import newest_with_files, show_guess
        from penstock.errors import NoFiles

        interval = newest_with_files(self.pipeline, self.interval, start, self.connect)
        found: dict[str, Guess] = {}
        for name in self.pipeline.sources:
            with self.report.about(f"source `{name}`"), suppress(NoFiles):
                guess = show_guess(self.pipeline, name, interval, self.connect, self.report)
                found |= {name: guess} if guess else {}
        return found

    def write_guesses(self, name: str, guesses: "dict[str, Guess]") -> None:
        """Write guesses into the pipeline file."""
        from penstock.cli.check.write_spec import write_guesses
        from penstock.spec.yaml_file import find_pipeline_file

        file = find_pipeline_file(name, self.settings.pipelines)
        with self.report.about("spec"):
            changed = write_guesses(file, guesses)
            written = ", ".join(f"source `{name}`" for name in changed)
            self.report.ok("spec", f"{file} is written: {written}" if changed else f"{file} has everything already")

    def accept_columns(self, start: datetime | None) -> None:
        """Make the sources' present columns the contract, and report what changed."""
        from penstock.cli.check.guesses import newest_with_files
        from penstock.run.schema_contract import accept_columns

        with self.report.about("contract"):
            interval = newest_with_files(self.pipeline, self.interval, start, self.connect)
            for compared in accept_columns(self.pipeline, interval, self.connect):
                for difference in compared.differences:
                    self.report.note(compared.subject, f"{difference.text}; accepted")

    def compare_columns(self, models: "dict[str, ModelVersion]", *, accept: bool) -> None:
        """Report differences between the sources' columns and outputs and those of the last published run.

        Args:
            accept: Make the outputs of now the contract.
        """
        from penstock.ledger.schema_contracts import read_contracts
        from penstock.models.needs import needed_columns
        from penstock.privacy.masking import NO_MASKING
        from penstock.run.schema_contract import accept_outputs, compare_event_time, compare_sources
        from penstock.scoring_steps import ScoringSteps

        manifests = {step: model.manifest for step, model in models.items()}
        needed = needed_columns(self.pipeline, manifests) if manifests else ()
        with self.report.about("contract"):
            registry = open_models(self.settings)
            steps = ScoringSteps(self.pipeline, self.settings, self.connect, registry, NO_MASKING)
            contracts = read_contracts(steps.warehouse, self.pipeline.name)
            outputs = steps.compare_outputs(manifests, contracts) if manifests else None
            sources = compare_sources(self.pipeline, self.interval, self.connect, needed, contracts)
            event_time = compare_event_time(self.pipeline, contracts)
            for compared in (*sources, *event_time, *([outputs] if outputs else [])):
                for difference in compared.differences:
                    accepted = accept and compared is outputs
                    text = f"{difference.text}{'; accepted' if accepted else ''}"
                    halts = difference in compared.halts and not accepted
                    (self.report.problem if halts else self.report.note)(compared.subject, text)
            if accept and outputs:
                accept_outputs(self.pipeline, self.connect, outputs)

    def build_features(self, samples: dict[str, Sample]) -> "pa.Table | None":
        from penstock.run.cut_check import check_cut
        from penstock.run.features import build_features
        from penstock.spec.stages import FEATURES

        others = {name: sample.rows for name, sample in samples.items() if name != self.pipeline.primary}
        primary = samples[self.pipeline.primary]
        with self.report.about("features"):
            features = build_features(
                self.pipeline, "of the sample", primary.rows, others, self.settings.statement_seconds
            )
            check_cut(self.pipeline, "of the sample", primary.rows, others, self.settings.statement_seconds)
            size = f"{count(features.num_rows)} rows, {plural(len(features.column_names), 'column')}"
            self.report.ok("features", size if self.pipeline.features else f"the primary source as it is: {size}")
            self.trial.judge(FEATURES, features, self._size(self.pipeline.primary, primary))
            return features
        return None

    def load_models(self) -> "dict[str, ModelVersion]":
        """Resolve and verify each step's model: digest, features, golden rows. Empty if one is missing."""
        registry = open_models(self.settings)
        loaded: dict[str, ModelVersion] = {}
        for step in self.pipeline.steps:
            subject = subject_of(self.pipeline, step)
            with self.report.about(subject):
                pin = registry.resolve(step.model)
                loaded[step.name] = version = registry.load(pin)
                golden = plural(len(version.manifest.golden), "golden row")
                self.report.ok(subject, f"{pin}, digest {pin.digest[:12]}, {golden} scored as registered")
        return loaded if len(loaded) == len(self.pipeline.steps) else {}

    def check_challengers(self, models: "dict[str, ModelVersion]", features: "pa.Table | None") -> None:
        """Check that each challenger can be found, takes these features and gives the champion's outputs."""
        [champion] = list(models.values())[:1]
        registry, outputs = open_models(self.settings), champion.manifest.outputs
        for each in self.pipeline.challengers:
            subject = f"challenger `{each.model}`"
            with self.report.about(subject):
                version = registry.load(registry.resolve(each.model))
                if version.manifest.label == champion.manifest.label:
                    self.report.note(subject, f"it is {version.manifest.label}, the champion's version: it is left out")
                    continue
                if set(outputs) != set(version.manifest.outputs):
                    given, wanted = (", ".join(sorted(names)) for names in (version.manifest.outputs, outputs))
                    what = f"{version.manifest.label} gives {given}, not {wanted} as the champion; register another one"
                    self.report.problem(subject, what)
                    continue
                if features is not None:
                    version.check_columns(features.column_names)
                share = "all rows" if each.share >= 1 else f"{each.share:.1%} of the rows"
                self.report.ok(subject, f"{version.manifest.label} scores {share}")

    def check_names(self, models: "dict[str, ModelVersion]") -> None:
        """Check that no column of the destination has a name that is taken."""
        from penstock.spec.column_names import find_taken

        kept = [c for c in self.pipeline.destination.keep if c not in self.pipeline.key]
        steps = self.pipeline.steps
        outputs = [self.pipeline.name_output(s, name) for s in steps for name in models[s.name].manifest.outputs]
        for taken in find_taken((*self.pipeline.key, *outputs, *self.pipeline.decide, *kept), outputs):
            self.report.problem("destination", str(taken))

    def check_drift(self, models: "dict[str, ModelVersion]") -> None:
        """Check that the model version has what `drift` compares with, and the ledger the run that it names."""
        from penstock.ledger.reader import find_run
        from penstock.models.profile import find_drift_bins

        drift = self.pipeline.drift
        if drift is None:
            return
        with self.report.about("drift"):
            columns = find_drift_bins(self.pipeline, {step: model.manifest for step, model in models.items()})
            self.report.ok("drift", f"{plural(len(columns), 'column')} compared with `{drift.against}`")
            if drift.names_run:
                find_run(self.connect(self.pipeline.destination.connection), drift.against)

    def check_history(self, features: "pa.Table") -> None:
        """Check that an existing history table accepts the key and the kept columns."""
        from penstock.run.history_table import check_rows

        destination, key = self.pipeline.destination, self.pipeline.key
        kept = dict.fromkeys((*key, *destination.keep))
        with self.report.about("destination"):
            table = features.select([c for c in kept if c in features.column_names])
            check_rows(self.connect(destination.connection), destination, key, table)

    def check_contract(
        self, samples: dict[str, Sample], features: "pa.Table", models: "dict[str, ModelVersion]"
    ) -> None:
        """Check that the features have the columns of the models, the decisions and the destination."""
        from penstock.cli.check.steps import check_steps
        from penstock.errors import MissingColumns
        from penstock.privacy.masking import MaskingPolicy
        from penstock.run.partition_options import PartitionOptions
        from penstock.spec.stages import SCORES

        primary = samples[self.pipeline.primary]
        known = tuple(dict.fromkeys((*features.column_names, *primary.rows.column_names)))
        lacking = tuple(c for c in self.pipeline.destination.keep if c not in known)
        with self.report.about("destination"):
            if lacking:
                raise MissingColumns("the features, for `destination.keep`,", lacking, known)
        if models:
            options = PartitionOptions(MaskingPolicy(self.pipeline.private_columns), self.settings.statement_seconds)
            size = SampleSize(features.num_rows, primary.is_whole, self.pipeline.quarantine_limit)
            scores = check_steps(self.pipeline, models, features, size, options, self.report)
            if scores is not None:
                self.trial.judge(SCORES, scores, size)
                check_target_columns(self.pipeline, self.settings, self.connect, scores, self.report)

    def _note_untested(self, subject: str, name: str) -> None:
        """Say if Penstock's tests do not read such a database."""
        from penstock.spec.sources import SqlSource

        source = self.pipeline.sources[name]
        note = self.connect(source.connection).untested if isinstance(source, SqlSource) else None
        if note is not None:
            self.report.note(subject, note)

    def _note_deprecated(self, subject: str, name: str) -> None:
        from penstock.spec.sources import FilesSource

        source = self.pipeline.sources[name]
        if isinstance(source, FilesSource) and source.text:
            columns = ", ".join(f"{column}: string" for column in source.text)
            instead = f"write `columns: {{{columns}}}` instead, as `penstock check --write` does"
            self.report.note(subject, f"`text` is deprecated and goes in 0.3; {instead}")

    def _note_timeless(self, subject: str, rows: int) -> None:
        if rows and self.pipeline.interval is not None:
            column = self.pipeline.interval.column
            self.report.warning(
                subject, f"{plural(rows, 'row has', 'rows have')} no `{column}`: in no interval, so never scored"
            )

    def _check_key(self, primary: "pa.Table") -> None:
        from penstock.run.keys import duplicate_keys

        twice = duplicate_keys(self.pipeline, primary)
        if twice:
            key = ", ".join(f"`{c}`" for c in self.pipeline.key)
            self.report.problem(f"source `{self.pipeline.primary}`", f"key {key} is not unique: {', '.join(twice)}")

    def _size(self, name: str, sample: Sample) -> SampleSize:
        """Return the size of a sample. Refused rows of other sources than the primary one do not halt a run."""
        is_whole = sample.is_whole and name == self.pipeline.primary
        return SampleSize(sample.rows.num_rows, is_whole, self.pipeline.quarantine_limit)
