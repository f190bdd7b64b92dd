"""`penstock demo` on a made-up shop: train, score, quarantine, halt, heal. Figures are read back."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.demo.context import (
    PIPELINE,
    Clock,
    DemoContext,
    ensure_installed,
    load_engines,
    make_folder,
    server_ahead,
    stop,
)
from penstock.cli.demo.pack import find_pack, play_pack, write_settings
from penstock.cli.opening import open_models, open_settings, without_collecting
from penstock.cli.output import console as stdout
from penstock.cli.output import make_table
from penstock.cli.own_settings import alone_in
from penstock.wording import plural

if TYPE_CHECKING:
    from datetime import datetime

    import pyarrow as pa

    from penstock.cli.demo.shop import Shop
    from penstock.cli.run.command import RunSummary
    from penstock.interval import DataInterval
    from penstock.models.manifest import Manifest
    from penstock.spec.pipeline import Pipeline

HOLDOUT = 0.2
"""The share of the rows with known outcomes that evaluates the model."""
ROWS = 50_000


def add_commands(app: typer.Typer) -> None:
    app.command("demo", epilog="Example: penstock demo --pack card-fraud --folder /tmp/bank")(demo)


def demo(
    folder: Annotated[Path, typer.Option(help="Folder to create. The folder of an earlier demo is replaced.")] = Path(
        "penstock-demo"
    ),
    rows: Annotated[
        int | None,
        typer.Option(
            min=2_000, max=5_000_000, help="Payments of the shop, in eight days. Default: 50000, or the pack's own."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same shop on the same day.")] = 7,
    pack: Annotated[
        str | None, typer.Option(help="A domain pack instead of the shop: a folder of examples/, such as card-fraud.")
    ] = None,
) -> None:
    """Try Penstock on a made-up shop in less than a minute, or on a domain pack."""
    console, clock = stdout(), Clock()
    ensure_installed()
    chosen = None if pack is None else find_pack(pack)
    make_folder(folder)
    if chosen is not None:
        write_settings(folder, chosen)
    with alone_in(folder) as overruling, without_collecting():
        if chosen is not None:
            play_pack(DemoContext(console, clock, open_settings(), chosen.pipelines[0]), chosen, folder, rows, seed)
        else:
            play(DemoContext(console, clock, open_settings()), folder, rows or ROWS, seed)
    if overruling:
        names = ", ".join(overruling)
        console.print(
            f"Your environment sets {names}, which overrides {folder / '.env'}. Unset it before you work there.",
            soft_wrap=True,
        )


def play(stage: DemoContext, shown: Path, rows: int, seed: int) -> None:
    """Run the demo.

    Args:
        shown: The folder, as the user entered it.

    Raises:
        typer.Exit: a step did not end as it should.
    """
    with server_ahead(stage.settings):
        with stage.clock.phase("make the shop"):
            shop = open_shop(stage, shown, rows, seed)
        with stage.clock.phase("train the model"):
            train_champion(stage, shop)
        with stage.clock.phase("load the engines"):
            load_engines()
        from penstock.cli.demo.show import show_end
        from penstock.cli.prefect_api import prefect_api

        with prefect_api(stage.settings):
            score_good_days(stage, shop)
            meet_broken_day(stage, shop)
            heal(stage, shop)
            with stage.clock.phase("show the end"):
                show_end(stage, shown)
        closing = time.perf_counter()
    stage.clock.phases["stop the server"] = time.perf_counter() - closing
    phases = ", ".join(f"{name} {spent:.1f}" for name, spent in stage.clock.phases.items())
    stage.write(f"\n[dim]{stage.clock.total:.1f} s in all: {phases}[/dim]")


def open_shop(stage: DemoContext, shown: Path, rows: int, seed: int) -> "Shop":
    """Make the shop and the pipeline's file."""
    from datetime import UTC, datetime

    from rich.markup import escape

    from penstock import deployments
    from penstock.cli.demo.shop import last_whole_day, make_shop
    from penstock.spec.yaml_file import parse_pipeline

    shipped = Path(deployments.__file__).with_name("pipelines") / f"{PIPELINE}.yaml"
    text = shipped.read_text(encoding="utf-8")
    spec = parse_pipeline(text.encode(), str(shipped))
    if spec.interval is None:
        stop(f"{shipped} has no `interval:`. Restore the file.")
    stage.title("A small shop")
    until = last_whole_day(datetime.now(UTC), spec.interval.delay)
    shop = make_shop(Path(), stage.connect("shop"), until, rows, seed)
    first = shop.scored_days[0].start
    old, new = (f"start: {moment:%Y-%m-%dT%H:%M:%SZ}" for moment in (spec.interval.start, first))
    if text.count(old) != 1:
        stop(f"{shipped} does not contain `{old}` once. Restore the file.")
    Path("pipelines").mkdir()
    Path("pipelines", f"{PIPELINE}.yaml").write_text(text.replace(old, new), encoding="utf-8")
    table = make_table("made", "what", "bytes", right=("bytes",))
    contents = {
        "shop.db": f"{plural(shop.payments, 'payment')} of {shop.customers:,} customers in "
        f"{plural(len(shop.days), 'day')}",
        "logs": f"{plural(shop.log_lines, 'line')} of an access log, rotated twice, "
        f"{shop.planted.broken_lines} of them broken",
        "lake": "exchange rates, a CSV file a day",
        "pipelines": f"{PIPELINE}.yaml: sources, features, expectations, model, destination",
    }
    for name, what in contents.items():
        table.add_row(escape(str(shown / name)), what, f"{_size(Path(name)):,}")
    stage.console.print(table)
    return shop


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())


def train_champion(stage: DemoContext, shop: "Shop") -> "Manifest":
    """Train on the days with known outcomes, with the pipeline's own sources and features query."""
    import pyarrow as pa
    import sqlalchemy as sa

    from penstock.cli.demo.shop import outcomes
    from penstock.database.bulk import read
    from penstock.models.training import train
    from penstock.run.extract import land_logs

    pipeline = stage.pipeline
    stage.title("Train a model on the days with known outcomes")
    landed = land_logs(pipeline, stage.connector)
    for name, landing in landed.items():
        stage.write(
            f"Landed {plural(landing.lines, 'line')} of `{name}` from {plural(landing.files, 'file')}; "
            f"{landing.malformed} lines cannot be read and are set aside."
        )
    frames = [_features_of(stage, pipeline, day) for day in shop.training_days]
    known = read(stage.connect("shop"), sa.select(outcomes))
    key = list(pipeline.key)
    frame = pa.concat_tables(frames).join(known, key, join_type="inner").sort_by([(c, "ascending") for c in key])
    label, time_column = outcomes.c.charged_back.name, _event_time(pipeline)
    learned = [c for c in frame.column_names if c not in (*key, label, time_column)]
    trained = train(frame, label, learned, holdout=HOLDOUT, order_by=time_column)
    ref = pipeline.steps[0].model
    manifest = trained.register(open_models(stage.settings), ref.name, ref.selector)
    judged = ", ".join(f"{name} {value:.3f}" for name, value in manifest.metrics.items())
    stage.write(
        f"Trained on {plural(frame.num_rows, 'payment')} of {plural(len(frames), 'day')}, {len(learned)} features: "
        f"{judged} on the last {HOLDOUT:.0%}, which are not used for training."
    )
    stage.write(f"Registered as [bold]{manifest.label}[/bold], alias `{ref.selector}`.")
    return manifest


def _event_time(pipeline: "Pipeline") -> str:
    """Return the column that orders the training rows: the pipeline's event time."""
    if pipeline.interval is None:
        stop(f"`{pipeline.name}` has no `interval:`. Restore its file.")
    return pipeline.interval.column


def _features_of(stage: DemoContext, pipeline: "Pipeline", day: "DataInterval") -> "pa.Table":
    from penstock.run.features import build_features
    from penstock.sources import open_source

    rows = {name: open_source(pipeline, name, stage.connector).read(day) for name in pipeline.sources}
    primary = rows.pop(pipeline.primary)
    return build_features(pipeline, day.label, primary, rows, stage.settings.statement_seconds)


def score_good_days(stage: DemoContext, shop: "Shop") -> None:
    """Score all days except the broken one, and show the refused rows."""
    from penstock.cli.demo.show import show_quarantine

    stage.title("Score the days after that")
    *good, broken = shop.scored_days
    with stage.clock.phase("first run"):
        summary = _run(stage, end=broken.start)
    _expect(summary, "have published", len(good))
    show_quarantine(stage, summary.records)


def meet_broken_day(stage: DemoContext, shop: "Shop") -> None:
    """Score the day whose amounts are in cents. Readers must see the same rows as before."""
    from penstock.cli.demo.show import digest_view, mean_amount

    stage.title("A bad night: the shop writes amounts in cents")
    day = shop.scored_days[-1]
    stage.write(f"Mean amount in `payments` on {day.label}: {mean_amount(stage, day):,.2f}")
    before = digest_view(stage)
    with stage.clock.phase("halted run"):
        summary = _run(stage, end=day.end)
    after = digest_view(stage)
    if summary.exit_code != 3:
        stop(f"The run should have been halted, but ended with exit code {summary.exit_code}. Report it.")
    table = stage.pipeline.destination.table
    for moment, (rows, digest) in (("before:", before), ("after: ", after)):
        stage.write(f"Readers of `{table}` {moment} {plural(rows, 'row')}, sha256 {digest[:32]}…")
    if before != after:
        stop("The halted run has changed what readers see. Report it.")
    stage.write(f"Exit code {summary.exit_code}, and readers still see the same rows, to the byte.")


def heal(stage: DemoContext, shop: "Shop") -> None:
    """Repair the shop's data, then run twice."""
    from datetime import UTC, datetime

    from penstock.cli.demo.shop import repair_amounts
    from penstock.cli.demo.show import digest_view, mean_amount

    stage.title("The shop repairs its data, and the next run scores the day")
    day = shop.scored_days[-1]
    repaired = repair_amounts(stage.connect("shop"), day, datetime.now(UTC).replace(microsecond=0))
    stage.write(
        f"Repaired {plural(repaired, 'payment')} in the shop. Their mean amount is now {mean_amount(stage, day):,.2f}."
    )
    with stage.clock.phase("healing run"):
        summary = _run(stage, end=day.end)
    _expect(summary, "have published", 1)
    with stage.clock.phase("last run"):
        again = _run(stage, end=day.end)
    _expect(again, "have found nothing to do", 0)
    rows, _ = digest_view(stage)
    stage.write(
        f"The second run changed nothing. Readers of `{stage.pipeline.destination.table}` see "
        f"{plural(rows, 'row')} now."
    )


def _run(stage: DemoContext, end: "datetime") -> "RunSummary":
    """Score what is due, up to the shop's last day, even if midnight passes during the demo."""
    from penstock.cli.run.command import run_pipeline

    return run_pipeline(
        PIPELINE, stage.settings, stage.console, mode="due", start=None, end=end, model=None, partition_rows=None,
        verbose=False,
    )  # fmt: skip


def _expect(summary: "RunSummary", what: str, intervals: int) -> None:
    published = sum(1 for run in summary.records if run.state == "published")
    if summary.exit_code or published != intervals or len(summary.records) != intervals:
        stop(
            f"The run should {what}, but ended with exit code {summary.exit_code} and {published} published intervals "
            f"of {intervals}: {summary.message}. Report it."
        )
