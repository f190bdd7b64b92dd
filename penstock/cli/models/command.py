"""`penstock models`: the group, and its commands that add versions and move aliases."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from zoneinfo import ZoneInfo

import typer

from penstock.cli.arguments import AsJson, ModelName, Timezone
from penstock.cli.models.gate import show_gate
from penstock.cli.models.history import show_history
from penstock.cli.opening import open_models, open_settings
from penstock.cli.output import console, make_table, write_json
from penstock.cli.user_name import find_user_name
from penstock.errors import SettingsError
from penstock.wording import plural

if TYPE_CHECKING:
    import pyarrow as pa

    from penstock.models.registry import Registry

_NOT_VERIFIED = (
    "not verified: missing value, base margin, link and rounds, which are not in the file; give the training code's "
    "outputs with `--expected`"
)


def add_commands(app: typer.Typer) -> None:
    group = typer.Typer(help="List, register and promote model versions, and who promoted them.", no_args_is_help=True)
    group.command("list", epilog="Example: penstock models list")(show_models)
    register_epilog = "Example: penstock models register card-risk model.ubj --reference rows.parquet --alias champion"
    group.command("register", epilog=register_epilog)(register_model)
    promote_epilog = "Example: penstock models promote card-risk 7 champion --note 'better on the newest labels'"
    group.command("promote", epilog=promote_epilog)(promote_model)
    group.command("history", epilog="Example: penstock models history card-risk")(show_history)
    group.command("gate", epilog="Example: penstock models gate card-risk")(show_gate)
    import_epilog = "Example: penstock models import-sklearn risk model.skops --rows rows.parquet --source payments"
    group.command("import-sklearn", epilog=import_epilog)(import_sklearn)
    app.add_typer(group, name="models")


def show_models(timezone: Timezone = None, as_json: AsJson = False) -> None:
    """List the models' versions with their aliases and training data."""

    registry, zone = _registry(), timezone or open_settings().timezone
    rows: list[dict[str, Any]] = []
    for name in registry.names():
        aliases = registry.aliases(name)
        for version in registry.versions(name):
            manifest = registry.manifest(name, version)
            rows.append(
                {
                    "name": name,
                    "version": version,
                    "aliases": sorted(alias for alias, of in aliases.items() if of == version),
                    "objective": manifest.objective,
                    "features": list(manifest.feature_names),
                    "outputs": list(manifest.outputs),
                    "metrics": manifest.metrics,
                    "missing": manifest.missing,
                    "base_margin": list(manifest.base_margin),
                    "link": manifest.link,
                    "rounds": manifest.rounds or None,
                    "reference_rows": manifest.reference_rows,
                    "unscorable_rows": manifest.unscorable_rows,
                    "verified_rows": manifest.verified_rows,
                    "saved_by": manifest.saved_by,
                    "digest": manifest.sha256,
                    "created_at": manifest.created_at,
                }
            )
    if as_json:
        write_json(rows)
        return
    if not rows:
        console().print(f"no models in {registry.folder}; add one with `penstock models register`", markup=False)
        return
    table = make_table(
        "model", "aliases", "objective", "features", "metrics", "verified", "registered", "digest", right=("features",)
    )
    for row in rows:
        metrics = ", ".join(f"{name} {value:.4g}" for name, value in row["metrics"].items())
        table.add_row(
            f"{row['name']}/{row['version']}",
            ", ".join(row["aliases"]),
            str(row["objective"]),
            str(len(row["features"])),
            metrics,
            plural(row["verified_rows"], "row") if row["verified_rows"] else "no",
            f"{row['created_at'].astimezone(ZoneInfo(zone)):%Y-%m-%d}",
            str(row["digest"])[:12],
        )
    console().print(table)


def register_model(
    name: ModelName,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Saved XGBoost model: .ubj or .json.", exists=True, dir_okay=False)
    ],
    reference: Annotated[
        Path,
        typer.Option(
            help="Rows it can score, usually its training rows: .parquet, .csv or .json, also compressed.",
            exists=True,
            dir_okay=False,
        ),
    ],
    alias: Annotated[str | None, typer.Option(help="Alias for the new version.")] = None,
    expected: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN|FILE",
            help="Outputs of the training code on the reference rows: columns (a,b,c), or a file of rows.",
        ),
    ] = None,
    missing: Annotated[
        float | None, typer.Option(help="Value of a feature that means missing, as given to XGBoost in training.")
    ] = None,
    base_margin: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Column of each row's base margin. Of several outputs one for each."),
    ] = None,
    link: Annotated[
        Literal["sigmoid", "exp", "identity", "softmax"] | None,
        typer.Option(help="Function that makes outputs of raw margins, after a custom objective."),
    ] = None,
    iterations: Annotated[
        int | None, typer.Option(min=1, help="Boosting rounds to score with. Default: up to the best one.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Labels of the classes, in the order of their numbers: low,mid,high.")
    ] = None,
    categories: Annotated[
        list[str] | None,
        typer.Option(help="Categories that are not in the file, in the order of their codes: country=DE,FR,IT."),
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(
            help="Names for a file without feature names, in the order of the training columns: one a line, or .fmap.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    max_unscorable: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the reference rows that the model need not be able to score.")
    ] = 0.0,
) -> None:
    """Register a model file in the store as the next version."""
    rows = _read_rows(reference, "reference rows")
    manifest = _registry().register(
        name,
        file,
        rows,
        alias,
        categories=dict(map(_read_categories, categories or [])),
        classes=classes.split(",") if classes else (),
        missing=missing,
        base_margin=base_margin or (),
        link=link,
        iterations=iterations,
        expected=_read_expected(expected, rows.column_names),
        max_unscorable=max_unscorable,
        features=features or (),
        by=find_user_name(),
    )
    note = f", alias `{alias}`" if alias else ""
    out = console()
    out.print(f"registered {manifest.label}, digest {manifest.sha256[:12]}{note}", markup=False)
    if manifest.unscorable_rows:
        whole = plural(manifest.reference_rows or 0, "reference row")
        text = f"{manifest.unscorable_rows:,} of {whole} cannot be scored"
        out.print(text, style="yellow", markup=False)
    if manifest.verified_rows:
        out.print(
            f"verified: {plural(manifest.verified_rows, 'reference row scores', 'reference rows score')} as expected",
            markup=False,
            soft_wrap=True,
        )
    else:
        out.print(_NOT_VERIFIED, style="yellow", markup=False, soft_wrap=True)


def import_sklearn(
    name: ModelName,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Fitted Pipeline that ends with XGBoost, saved by skops.", exists=True, dir_okay=False
        ),
    ],
    rows: Annotated[
        Path,
        typer.Option(
            help="Rows with the Pipeline's input columns, to verify with: .parquet, .csv or .json.",
            exists=True,
            dir_okay=False,
        ),
    ],
    source: Annotated[str, typer.Option(help="Name of the source in the features query.")],
    key: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Key of the source. Default: the row's file and number.")
    ] = None,
    alias: Annotated[str | None, typer.Option(help="Alias for the new version.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="File for the features query. Default: NAME.features.sql.")
    ] = None,
) -> None:
    """Import a scikit-learn Pipeline: its steps as a features query, and its model."""
    from penstock.models.sklearn_pipelines.importing import import_pipeline
    from penstock.spec.sources import ROW_ID

    target = output or Path(f"{name}.features.sql")
    if target.exists():
        raise SettingsError(f"{target} exists", "Give another file with --output, or remove it.")
    given = _read_rows(rows, "rows")
    imported = import_pipeline(
        _registry(), name, file, given, source=source, key=key or (ROW_ID,), alias=alias, by=find_user_name()
    )
    target.write_text(imported.features_sql, encoding="utf-8")
    manifest, out = imported.manifest, console()
    note = f", alias `{alias}`" if alias else ""
    out.print(f"registered {manifest.label}, digest {manifest.sha256[:12]}{note}", markup=False)
    out.print(
        f"verified: {plural(imported.verified_rows, 'row')} have the features and outputs of the Pipeline",
        markup=False,
        soft_wrap=True,
    )
    out.print(f"wrote {target}: copy it to `features:` of the pipeline", markup=False, soft_wrap=True)


def promote_model(
    name: ModelName,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Number of the version.")],
    alias: Annotated[str, typer.Argument(metavar="ALIAS", help="Alias to move, such as champion.")],
    by: Annotated[str | None, typer.Option(help="Who decided. Default: your user name.")] = None,
    note: Annotated[str, typer.Option(help="Why. It is part of the alias's history.")] = "",
) -> None:
    """Move an alias to another version. The next run scores with it."""
    registry = _registry()
    before = registry.aliases(name).get(alias)
    registry.promote(name, version, alias, by=by or find_user_name(), note=note)
    note = f", was {name}/{before}" if before and before != version else ""
    console().print(f"{name}@{alias} is {name}/{version} now{note}", markup=False)


def _registry() -> "Registry":
    return open_models(open_settings())


def _read_categories(text: str) -> tuple[str, list[str]]:
    feature, mark, values = text.partition("=")
    if not mark:
        raise typer.BadParameter(f"`{text}` names no feature; write country=DE,FR,IT", param_hint="--categories")
    return feature, values.split(",")


def _read_expected(text: str | None, columns: list[str]) -> "list[str] | pa.Table | None":
    """Return the named columns, or the rows of the file if no column has such a name."""
    from penstock.sources.given_file import is_rows_file

    if text is None or text in columns:
        return None if text is None else [text]
    return _read_rows(Path(text), "expected outputs") if is_rows_file(text) else text.split(",")


def _read_rows(path: Path, what: str) -> "pa.Table":
    from penstock.errors import BrokenFile
    from penstock.sources.given_file import read_given_file

    try:
        return read_given_file(what, path)
    except BrokenFile as error:
        remedy = "Give a Parquet, CSV or JSON-lines file."
        raise SettingsError(f"the {what} in {path} cannot be read: {error.reason}", remedy) from None
