"""`penstock models`: list, register and promote the versions in the model store."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.arguments import AsJson
from penstock.cli.opening import open_settings
from penstock.cli.output import console, make_table, write_json
from penstock.errors import SettingsError

if TYPE_CHECKING:
    import pyarrow as pa

    from penstock.models.registry import Registry

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the model.")]


def add_commands(app: typer.Typer) -> None:
    group = typer.Typer(help="List, register and promote model versions.", no_args_is_help=True)
    group.command("list", epilog="Example: penstock models list")(show_models)
    register_epilog = "Example: penstock models register card-risk model.ubj --reference rows.parquet --alias champion"
    group.command("register", epilog=register_epilog)(register_model)
    group.command("promote", epilog="Example: penstock models promote card-risk 7 champion")(promote_model)
    app.add_typer(group, name="models")


def show_models(as_json: AsJson = False) -> None:
    """List the models' versions with their aliases and training data."""
    registry = _registry()
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
        "model", "aliases", "objective", "features", "metrics", "registered", "digest", right=("features",)
    )
    for row in rows:
        metrics = ", ".join(f"{name} {value:.4g}" for name, value in row["metrics"].items())
        table.add_row(
            f"{row['name']}/{row['version']}",
            ", ".join(row["aliases"]),
            str(row["objective"]),
            str(len(row["features"])),
            metrics,
            f"{row['created_at']:%Y-%m-%d %H:%M}",
            str(row["digest"])[:12],
        )
    console().print(table)


def register_model(
    name: Name,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Saved XGBoost model: .ubj or .json.", exists=True, dir_okay=False)
    ],
    reference: Annotated[
        Path,
        typer.Option(
            help="Rows it can score, usually its training rows: .parquet or .csv.", exists=True, dir_okay=False
        ),
    ],
    alias: Annotated[str | None, typer.Option(help="Alias for the new version.")] = None,
    categories: Annotated[
        list[str] | None,
        typer.Option(help="Categories that are not in the file, in the order of their codes: country=DE,FR,IT."),
    ] = None,
) -> None:
    """Register a model file in the store as the next version."""
    manifest = _registry().register(
        name, file, _read_reference(reference), alias, categories=dict(map(_read_categories, categories or []))
    )
    note = f", alias `{alias}`" if alias else ""
    console().print(f"registered {manifest.label}, digest {manifest.sha256[:12]}{note}", markup=False)


def promote_model(
    name: Name,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Number of the version.")],
    alias: Annotated[str, typer.Argument(metavar="ALIAS", help="Alias to move, such as champion.")],
) -> None:
    """Move an alias to another version. The next run scores with it."""
    registry = _registry()
    before = registry.aliases(name).get(alias)
    registry.promote(name, version, alias)
    note = f", was {name}/{before}" if before and before != version else ""
    console().print(f"{name}@{alias} is {name}/{version} now{note}", markup=False)


def _registry() -> "Registry":
    from penstock.models.registry import Registry

    return Registry(open_settings().models_folder)


def _read_categories(text: str) -> tuple[str, list[str]]:
    feature, mark, values = text.partition("=")
    if not mark:
        raise typer.BadParameter(f"`{text}` names no feature; write country=DE,FR,IT", param_hint="--categories")
    return feature, values.split(",")


def _read_reference(path: Path) -> "pa.Table":
    import pyarrow as pa
    from pyarrow import csv, parquet

    try:
        if path.suffix.lower() == ".csv":
            return csv.read_csv(path)
        return parquet.read_table(path)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise SettingsError(
            f"the reference rows in {path} cannot be read: {reason}", "Give a Parquet or CSV file."
        ) from None
