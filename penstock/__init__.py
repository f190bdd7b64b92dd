"""Exactly-once model scoring: what a Python user needs for a flow, a test or a notebook.

>>> import penstock
>>> project = penstock.Project()
>>> pipeline = project.load_pipeline("card-risk")
>>> for planned in project.plan(pipeline).intervals:
...     result = project.score_interval(pipeline, planned)

Names are loaded when they are first used: importing `penstock` imports no other package.
"""

TYPE_CHECKING = False  # type checkers take it for true; `typing` itself would cost most of the import
if TYPE_CHECKING:
    from penstock.api.features import apply_features
    from penstock.api.project import Project, ScoredInterval
    from penstock.database.connections import Database
    from penstock.errors import (
        FeaturesError,
        Halted,
        IntervalBusy,
        ModelError,
        PenstockError,
        SettingsError,
        SourceError,
        SpecError,
        TakenOver,
        TerminalError,
        TransientError,
        UsageError,
    )
    from penstock.interval import DataInterval
    from penstock.ledger.reader import RunRecord
    from penstock.ledger.run_lease import run_lease
    from penstock.models.booster import ModelVersion
    from penstock.models.manifest import Manifest
    from penstock.models.registry import Registry
    from penstock.models.training import Trained, train
    from penstock.report.document import RunDocument
    from penstock.run.planning import Plan, PlannedInterval
    from penstock.run_types import ModelPin, Validation, gather_receipts
    from penstock.settings import Settings, load_settings
    from penstock.spec.expectation import Expectation
    from penstock.spec.interval import IntervalSpec
    from penstock.spec.parts import Budget, Notify, Retention, Schedule
    from penstock.spec.pipeline import Pipeline
    from penstock.spec.pipeline_fields import Destination
    from penstock.spec.sources import (
        DeltaSource,
        FilesSource,
        IcebergSource,
        JsonTime,
        LogGroup,
        LogSource,
        RegexFormat,
        SqlSource,
    )
    from penstock.spec.steps import ModelRef, ScoreStep
    from penstock.spec.yaml_file import load_pipeline

    __version__: str

_HOMES = {
    "Budget": "penstock.spec.parts",
    "DataInterval": "penstock.interval",
    "Database": "penstock.database.connections",
    "DeltaSource": "penstock.spec.sources",
    "Destination": "penstock.spec.pipeline_fields",
    "Expectation": "penstock.spec.expectation",
    "FeaturesError": "penstock.errors",
    "FilesSource": "penstock.spec.sources",
    "Halted": "penstock.errors",
    "IcebergSource": "penstock.spec.sources",
    "IntervalBusy": "penstock.errors",
    "IntervalSpec": "penstock.spec.interval",
    "JsonTime": "penstock.spec.sources",
    "LogGroup": "penstock.spec.sources",
    "LogSource": "penstock.spec.sources",
    "Manifest": "penstock.models.manifest",
    "ModelError": "penstock.errors",
    "ModelPin": "penstock.run_types",
    "ModelRef": "penstock.spec.steps",
    "ModelVersion": "penstock.models.booster",
    "Notify": "penstock.spec.parts",
    "PenstockError": "penstock.errors",
    "Pipeline": "penstock.spec.pipeline",
    "Plan": "penstock.run.planning",
    "PlannedInterval": "penstock.run.planning",
    "Project": "penstock.api.project",
    "RegexFormat": "penstock.spec.sources",
    "Registry": "penstock.models.registry",
    "Retention": "penstock.spec.parts",
    "RunDocument": "penstock.report.document",
    "RunRecord": "penstock.ledger.reader",
    "Schedule": "penstock.spec.parts",
    "ScoreStep": "penstock.spec.steps",
    "ScoredInterval": "penstock.api.project",
    "Settings": "penstock.settings",
    "SettingsError": "penstock.errors",
    "SourceError": "penstock.errors",
    "SpecError": "penstock.errors",
    "SqlSource": "penstock.spec.sources",
    "TakenOver": "penstock.errors",
    "TerminalError": "penstock.errors",
    "Trained": "penstock.models.training",
    "TransientError": "penstock.errors",
    "UsageError": "penstock.errors",
    "Validation": "penstock.run_types",
    "apply_features": "penstock.api.features",
    "gather_receipts": "penstock.run_types",
    "load_pipeline": "penstock.spec.yaml_file",
    "load_settings": "penstock.settings",
    "run_lease": "penstock.ledger.run_lease",
    "train": "penstock.models.training",
}
"""The module that each public name comes from. The imports above say the same to type checkers."""

__all__ = [
    "Budget",
    "DataInterval",
    "Database",
    "DeltaSource",
    "Destination",
    "Expectation",
    "FeaturesError",
    "FilesSource",
    "Halted",
    "IcebergSource",
    "IntervalBusy",
    "IntervalSpec",
    "JsonTime",
    "LogGroup",
    "LogSource",
    "Manifest",
    "ModelError",
    "ModelPin",
    "ModelRef",
    "ModelVersion",
    "Notify",
    "PenstockError",
    "Pipeline",
    "Plan",
    "PlannedInterval",
    "Project",
    "RegexFormat",
    "Registry",
    "Retention",
    "RunDocument",
    "RunRecord",
    "Schedule",
    "ScoreStep",
    "ScoredInterval",
    "Settings",
    "SettingsError",
    "SourceError",
    "SpecError",
    "SqlSource",
    "TakenOver",
    "TerminalError",
    "Trained",
    "TransientError",
    "UsageError",
    "Validation",
    "__version__",
    "apply_features",
    "gather_receipts",
    "load_pipeline",
    "load_settings",
    "run_lease",
    "train",
]


if not TYPE_CHECKING:  # a type checker that saw it would take any name for a public one

    def __getattr__(name: str) -> object:
        if name == "__version__":
            from importlib.metadata import version

            value: object = version("penstock")
        elif name in _HOMES:
            from importlib import import_module

            value = getattr(import_module(_HOMES[name]), name)
        else:
            raise AttributeError(f"module `penstock` has no attribute `{name}`")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__
