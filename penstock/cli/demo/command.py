"""The whole thing on a small shop that it makes itself: train, score, quarantine, halt, heal. Figures are read back."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.demo.context import (
    PIPELINE,
    Clock,
    DemoContext,
    alone_in,
    ensure_installed,
    load_engines,
    make_folder,
    server_ahead,
    stop,
)
from penstock.cli.demo.pack import find_pack, play_pack, write_settings
from penstock.cli.opening import open_settings
from penstock.cli.output import console as stdout
from penstock.cli.output import make_table, plural

if TYPE_CHECKING:
    from datetime import datetime

    import pyarrow as pa

    from penstock.cli.demo.shop import Shop
    from penstock.cli.run.command import RunSummary
    from penstock.interval import DataInterval
    from penstock.models.manifest import Manifest
    from penstock.spec.pipeline import Pipeline

HOLDOUT = 0.2
"""Share of the days with outcomes that judges the model."""
ROWS = 50_000


def add_commands(app: typer.Typer) -> None:
    app.command("demo", epilog="Example: penstock demo --pack card-fraud --folder /tmp/bank")(demo)


def demo(
    folder: Annotated[Path, typer.Option(help="Folder to make; one that an earlier demo made is made anew.")] = Path(
        "penstock-demo"
    ),
    rows: Annotated[
        int | None,
        typer.Option(min=2_000, max=5_000_000, help="Payments of the shop, in eight days; 50000, or the pack's own."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed on the same day: same shop.")] = 7,
    pack: Annotated[
        str | None, typer.Option(help="A domain pack instead of the shop: a folder of examples/, as in card-fraud.")
    ] = None,
) -> None:
    """Try everything on a small shop that it makes itself, in less than a minute; or on a domain pack."""
    console, clock = stdout(), Clock()
    ensure_installed()
    chosen = None if pack is None else find_pack(pack)
    make_folder(folder)
    if chosen is not None:
        write_settings(folder, chosen)
    with alone_in(folder) as overruling:
        if chosen is not None:
            play_pack(DemoContext(console, clock, open_settings(), chosen.pipelines[0]), chosen, folder, rows, seed)
        else:
            play(DemoContext(console, clock, open_settings()), folder, rows or ROWS, seed)
    if overruling:
        names = ", ".join(overruling)
        console.print(
            f"Your environment sets {names}, and wins over {folder / '.env'}: unset it there.", soft_wrap=True
        )


def play(stage: DemoContext, shown: Path, rows: int, seed: int) -> None:
    """Run the demo from begin to end.

    Args:
        shown: the folder as the user knows it.

    Raises:
        typer.Exit: a step did not end as it should.
    """
    with server_ahead(stage.settings):
        with stage.clock.phase("make the shop"):
            shop = open_shop(stage, shown, rows, seed)
        with stage.clock.phase("train the model"):
            train_champion(stage, shop)
        with stage.clock.phase("load the engines"):
            load_engines(stage)
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
    stage.tell(f"\n[dim]{stage.clock.total:.1f} s in all: {phases}[/dim]")


def open_shop(stage: DemoContext, shown: Path, rows: int, seed: int) -> "Shop":
    """Make the shop, and the pipeline's file beside it."""
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
        stop(f"{shipped} does not hold `{old}` once. Restore the file.")
    Path("pipelines").mkdir()
    Path("pipelines", f"{PIPELINE}.yaml").write_text(text.replace(old, new), encoding="utf-8")
    table = make_table("made", "what", "bytes", right=("bytes",))
    told = {
        "shop.db": f"{plural(shop.payments, 'payment')} of {shop.customers:,} customers in {len(shop.days)} days",
        "logs": f"{shop.log_lines:,} lines of an access log, rotated twice, {shop.planted.broken_lines} of them broken",
        "lake": "exchange rates, a CSV file a day",
        "pipelines": f"{PIPELINE}.yaml: sources, features, expectations, model, destination",
    }
    for name, what in told.items():
        table.add_row(escape(str(shown / name)), what, f"{_size(Path(name)):,}")
    stage.console.print(table)
    return shop


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())


def train_champion(stage: DemoContext, shop: "Shop") -> "Manifest":
    """Train on the days whose outcomes are known, by the pipeline's own sources and features query."""
    import pyarrow as pa
    import sqlalchemy as sa

    from penstock.cli.demo.shop import outcomes
    from penstock.database.bulk import read
    from penstock.models.registry import Registry
    from penstock.models.training import train
    from penstock.run.extract import land_logs

    pipeline = stage.pipeline
    stage.title("A model from the days whose outcomes are known")
    landed = land_logs(pipeline, stage.connector)
    for name, landing in landed.items():
        stage.tell(
            f"Landed {landing.lines:,} lines of `{name}` from {plural(landing.files, 'file')}; "
            f"{landing.malformed} lines cannot be read and are kept aside."
        )
    frames = [_features_of(stage, pipeline, day) for day in shop.training_days]
    known = read(stage.connect("shop"), sa.select(outcomes))
    key = list(pipeline.key)
    frame = pa.concat_tables(frames).join(known, key, join_type="inner").sort_by([(c, "ascending") for c in key])
    label, time_column = outcomes.c.charged_back.name, _event_time(pipeline)
    learned = [c for c in frame.column_names if c not in (*key, label, time_column)]
    trained = train(frame, label, learned, holdout=HOLDOUT, order_by=time_column)
    ref = pipeline.steps[0].model
    manifest = trained.register(Registry(stage.settings.models_folder), ref.name, ref.selector)
    judged = ", ".join(f"{name} {value:.3f}" for name, value in manifest.metrics.items())
    stage.tell(
        f"Learned from {frame.num_rows:,} payments of {len(frames)} days, {len(learned)} features; "
        f"{judged} on the last {HOLDOUT:.0%} of them, which only judge."
    )
    stage.tell(f"Registered as [bold]{manifest.label}[/bold], alias `{ref.selector}`.")
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
    """Score all days but the broken one, and show what was refused."""
    from penstock.cli.demo.show import show_quarantine

    stage.title("Score the days after")
    *good, broken = shop.scored_days
    with stage.clock.phase("first run"):
        summary = _run(stage, end=broken.start)
    _expect(summary, "publish", len(good))
    show_quarantine(stage, summary.records)


def meet_broken_day(stage: DemoContext, shop: "Shop") -> None:
    """Run into the day whose amounts are in cents; readers must see what they saw."""
    from penstock.cli.demo.show import digest_view, mean_amount

    stage.title("A bad night: somebody writes amounts in cents")
    day = shop.scored_days[-1]
    stage.tell(f"Mean amount in `payments` on {day.label}: {mean_amount(stage, day):,.2f}")
    before = digest_view(stage)
    with stage.clock.phase("halted run"):
        summary = _run(stage, end=day.end)
    after = digest_view(stage)
    if summary.exit_code != 3:
        stop(f"The run should have been halted, and ended with exit code {summary.exit_code}. Report it.")
    table = stage.pipeline.destination.table
    for moment, (rows, digest) in (("before:", before), ("after: ", after)):
        stage.tell(f"Readers of `{table}` {moment} {rows:,} rows, sha256 {digest[:32]}…")
    if before != after:
        stop("The halted run has changed what readers see. Report it.")
    stage.tell(f"Exit code {summary.exit_code}, and not a byte has changed for them.")


def heal(stage: DemoContext, shop: "Shop") -> None:
    """Mend the shop, run again, and once more."""
    from datetime import UTC, datetime

    from penstock.cli.demo.shop import mend_amounts
    from penstock.cli.demo.show import digest_view, mean_amount

    stage.title("The shop is mended, and the next run heals")
    day = shop.scored_days[-1]
    mended = mend_amounts(stage.connect("shop"), day, datetime.now(UTC).replace(microsecond=0))
    stage.tell(f"Mended {mended:,} payments in the shop; their mean amount is {mean_amount(stage, day):,.2f} now.")
    with stage.clock.phase("healing run"):
        summary = _run(stage, end=day.end)
    _expect(summary, "publish", 1)
    with stage.clock.phase("last run"):
        again = _run(stage, end=day.end)
    _expect(again, "find nothing to do", 0)
    rows, _ = digest_view(stage)
    stage.tell(f"That was once more. Readers of `{stage.pipeline.destination.table}` see {rows:,} rows now.")


def _run(stage: DemoContext, end: "datetime") -> "RunSummary":
    """Score what is due; never beyond the shop's last day, though midnight pass meanwhile."""
    from penstock.cli.run.command import run_pipeline

    return run_pipeline(
        PIPELINE, stage.settings, stage.console, mode="due", start=None, end=end, model=None, partition_rows=None,
        verbose=False,
    )  # fmt: skip


def _expect(summary: "RunSummary", what: str, intervals: int) -> None:
    published = sum(1 for run in summary.records if run.state == "published")
    if summary.exit_code or published != intervals or len(summary.records) != intervals:
        stop(
            f"The run should {what}, and ended with exit code {summary.exit_code} and {published} published intervals "
            f"of {intervals}: {summary.message}. Report it."
        )
