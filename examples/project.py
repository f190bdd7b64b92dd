"""Make a project folder for packs: settings, pipelines, and the size of the generated data."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from secrets import token_hex

import penstock
from penstock import DataInterval, IntervalSpec, Project, SettingsError, load_pipeline
from penstock.examples.pack import Pack, Size

SHIPPED = Path(penstock.__file__).parent / "deployments" / "pipelines"
_SETTINGS = """\
# Read by every penstock command that is run in this folder.
PENSTOCK_HOME=.penstock
PENSTOCK_PIPELINES=pipelines
"""


@contextmanager
def inside(folder: Path) -> Iterator[Project]:
    """Make a project folder the working folder, and give its project. Paths in it are relative."""
    with chdir(folder):
        yield Project()


def write_settings(folder: Path, packs: Sequence[Pack]) -> None:
    """Write `.env`: SQLite files in the folder as connections, and a new secret for private columns."""
    names = dict.fromkeys(name for pack in packs for name in pack.connections)
    lines = [f"PENSTOCK_CONNECTIONS__{name.upper()}=sqlite:///{name}.db\n" for name in names]
    secret = f"PENSTOCK_PRIVATE_KEY={token_hex(32)}\n"
    (folder / ".env").write_text(_SETTINGS + "".join(lines) + secret, encoding="utf-8")


def newest_end(pack: Pack, now: datetime) -> datetime:
    """Return the end of the newest interval of the pack's first pipeline that is due."""
    spec = load_pipeline(SHIPPED / f"{pack.pipelines[0]}.yaml").interval
    if spec is None:
        return now.replace(hour=0, minute=0, second=0, microsecond=0)
    return spec.grid.align_down(now - spec.delay)


def write_pipelines(pack: Pack, size: Size) -> None:
    """Copy the pack's specs into the working folder. Each starts at the pack's first interval to score."""
    Path("pipelines").mkdir(exist_ok=True)
    for name in pack.pipelines:
        text = (SHIPPED / f"{name}.yaml").read_text(encoding="utf-8")
        interval = load_pipeline(SHIPPED / f"{name}.yaml").interval
        if interval is not None:
            first = scored_span(pack, interval, size).start
            text, changed = re.subn(r"(\bstart: )\d{4}-\d\d-\d\dT[\d:]+Z", rf"\g<1>{first:%Y-%m-%dT%H:%M:%SZ}", text)
            if changed != 1:
                raise SettingsError(f"{SHIPPED / name}.yaml does not contain one `start:`", "Restore the file.")
        Path("pipelines", f"{name}.yaml").write_text(text, encoding="utf-8")


def scored_span(pack: Pack, interval: IntervalSpec, size: Size) -> DataInterval:
    """Return the range that a pipeline of the pack scores."""
    end = interval.grid.align_down(size.until)
    return DataInterval(interval.grid.previous(end, pack.scored), end)


def write_size(pack: Pack, size: Size) -> None:
    """Store the size of the pack's data, so that the same data can be drawn again."""
    body = asdict(size) | {"until": size.until.isoformat()}
    Path(f"{pack.name}.json").write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")


def read_size(pack: Pack) -> Size:
    """Read what `write_size` wrote.

    Raises:
        SettingsError: The pack was not generated in this folder.
    """
    file = Path(f"{pack.name}.json")
    if not file.is_file():
        module = pack.name.replace("-", "_")
        raise SettingsError(
            f"`{pack.name}` was not generated in {os.getcwd()}",
            f"Generate it with `python -m penstock.examples.{module} generate`.",
        )
    body = json.loads(file.read_text(encoding="utf-8"))
    return Size(**body | {"until": datetime.fromisoformat(body["until"])})
