"""Try the expectations on sample rows, so that a check finds what a run could not judge, and what it would refuse."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from penstock.cli.check.report import CheckReport, SampleSize

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from penstock.privacy.masking import MaskingPolicy
    from penstock.spec.expectation import Expectation
    from penstock.spec.pipeline import Pipeline

SUBJECT = "expectations"


@dataclass
class Trial:
    """The expectations of a pipeline, and how many of them were tried."""

    pipeline: "Pipeline"
    masking: "MaskingPolicy"
    report: CheckReport
    tried: int = field(default=0, init=False)
    compiled: int = field(default=0, init=False)
    """How many row expectations DuckDB judges."""
    by_library: list[str] = field(default_factory=list, init=False)
    """The row expectations that Great Expectations judges."""

    def judge(self, stage: str, rows: "pa.Table", size: SampleSize) -> None:
        """Judge the rows of one stage.

        Expectations about the whole interval are tried, and what they find is left out: a sample is not the interval.
        """
        from penstock.errors import MissingColumns
        from penstock.quality import columns_needed, judge_rows, judge_whole

        expectations = self.pipeline.expectations_of(stage)
        if not expectations:
            return
        with self.report.about(SUBJECT):
            wanted = dict.fromkeys(c for expectation in expectations for c in expectation.columns)
            lacking = tuple(c for c in wanted if c not in rows.column_names)
            if lacking:
                raise MissingColumns(f"`{stage}`, for its expectations,", lacking, tuple(rows.column_names))
            verdict = judge_rows(stage, rows, expectations, masking=self.masking)
            judged = rows.select(columns_needed(expectations))
            judge_whole(
                stage, judged, rows.num_rows, rows.column_names, expectations, sampled=True, masking=self.masking
            )
            self.tried += len(expectations)
            self._count_judges(stage, rows.schema, [each for each in expectations if each.is_row])
            for found in verdict.validations:
                if found.outcome == "halted":
                    what = f"{stage}: {found.expectation}: {found.detail}. It is critical, so the run would halt"
                    self.report.problem(SUBJECT, what)
            if verdict.refused:
                labels = next(iter(verdict.refused.values()))
                self.report.refused(SUBJECT, len(verdict.refused), f"{stage}: {labels[0]}", size)

    def conclude(self) -> None:
        """Report how many expectations can be judged."""
        number = sum(len(stage) for stage in self.pipeline.expectations.values())
        for stage, expectations in self.pipeline.expectations.items():
            self._note_suite(stage, expectations)
        if not number:
            self.report.note(SUBJECT, "none: every row is scored as it is")
        elif self.tried < number:
            self.report.note(SUBJECT, f"{self.tried} of {number} were tried on sample rows")
        else:
            self.report.ok(SUBJECT, f"{number} can be evaluated")
        self._note_judges()

    def _count_judges(self, stage: str, schema: "pa.Schema", expectations: "Sequence[Expectation]") -> None:
        from penstock.quality.predicates import compile_predicates

        for expectation, predicate in zip(expectations, compile_predicates(expectations, schema), strict=True):
            if predicate is not None:
                self.compiled += 1
            else:
                self.by_library.append(f"{stage}: {expectation.label}")

    def _note_judges(self) -> None:
        """Report who judges the rows: DuckDB, or Great Expectations where DuckDB is not proven to be the same."""
        if self.by_library:
            listed = "; ".join(self.by_library)
            others = len(self.by_library)
            self.report.note(
                SUBJECT, f"by row: {self.compiled} judged by DuckDB, {others} by Great Expectations: {listed}"
            )
        elif self.compiled:
            self.report.note(SUBJECT, f"by row: {self.compiled} judged by DuckDB")

    def _note_suite(self, stage: str, expectations: "Sequence[Expectation]") -> None:
        """Report which expectations of a suite are judged in the audit, and what was changed of them."""
        suite = next((expectation.suite for expectation in expectations if expectation.suite), None)
        if suite is None:
            return
        in_audit = [expectation for expectation in expectations if not expectation.is_row]
        by_row = len(expectations) - len(in_audit)
        self.report.note(
            SUBJECT,
            f"{stage}: {suite}: {by_row} are judged by row, {len(in_audit)} in the audit, of the whole interval",
        )
        for expectation in expectations:
            if expectation.note:
                self.report.note(SUBJECT, f"{stage}: {suite}: {expectation.label}: {expectation.note}")
