"""Checks of the pipelines folder."""

from collections.abc import Iterator
from functools import partial

from penstock.deployments.doctor.context import CheckContext
from penstock.deployments.doctor.finding import Check, Finding, broken, ok, warning
from penstock.errors import SettingsError
from penstock.privacy.masking import make_masking
from penstock.seals.keys import read_seal_keys


def list_checks(case: CheckContext) -> tuple[Check, ...]:
    return Check("specs", partial(check_specs, case)), Check("keys", partial(check_keys, case))


def check_specs(case: CheckContext) -> Iterator[Finding]:
    for error in case.spec_errors:
        yield broken(
            "specs", f"{error.file}: {'; '.join(map(str, error.problems))}", "Correct it; try `penstock check`."
        )
    if case.pipelines:
        yield ok("specs", f"{len(case.pipelines)} in {case.settings.pipelines} load")
    elif not case.spec_errors:
        yield warning("specs", f"no pipelines in {case.settings.pipelines}", "Put a YAML file there.")


def check_keys(case: CheckContext) -> Iterator[Finding]:
    """Check that the secrets are set which pipelines with private columns or with seals need."""
    needing = [pipeline for pipeline in case.pipelines if pipeline.private_columns or pipeline.seal]
    missing: dict[str, str] = {}
    for pipeline in needing:
        try:
            make_masking(pipeline, case.settings)
            if pipeline.seal:
                read_seal_keys(case.settings, f"`{pipeline.name}` seals its rows")
        except SettingsError as error:
            missing[error.what] = error.remedy
    for what, remedy in missing.items():
        yield broken("keys", what, remedy)
    if needing and not missing:
        yield ok("keys", "those of private columns and of seals are set")
