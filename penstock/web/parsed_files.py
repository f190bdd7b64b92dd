"""Pipeline files that are parsed once for each of their contents: a page asks for all of them, at 15 ms each."""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from penstock.spec.pipeline import Pipeline
from penstock.spec.yaml_file import MAX_BYTES, parse_pipeline


@dataclass
class ParsedFiles:
    """The pipelines by file, each with the bytes that it was parsed from."""

    _found: dict[Path, tuple[bytes, Pipeline]] = field(default_factory=dict)

    def load(self, file: Path) -> Pipeline:
        """Read a pipeline file, and parse it if its bytes are others than before.

        One that names a suite is parsed each time, because the suite is a file of its own.

        Raises:
            SpecError: with every problem that was found.
        """
        with file.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)  # no more of a file that is too large
        known = self._found.get(file)
        if known is not None and known[0] == content:
            return known[1]
        pipeline = parse_pipeline(content, str(file))
        if not any(each.suite for listed in pipeline.expectations.values() for each in listed):
            self._found[file] = content, pipeline
        return pipeline

    def drop_others(self, files: Collection[Path]) -> None:
        """Drop the pipelines of other files than these, because those files are gone."""
        for known in list(self._found):  # other pages may read meanwhile
            if known not in files:
                self._found.pop(known, None)
