"""Write guesses into a pipeline file, and replace deprecated keys. Comments and order stay."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.spec.pipeline import Pipeline
from penstock.spec.sources import FilesSource
from penstock.spec.yaml_edit import add_entries, remove_entry, replace_entry
from penstock.spec.yaml_file import parse_pipeline

if TYPE_CHECKING:
    from penstock.sources.text.dialect import Dialect


@dataclass(frozen=True)
class Guess:
    """How the text files of a source are written, and the types of their columns."""

    dialect: "Dialect"
    types: Mapping[str, str]
    """By column, as a contract stores it."""

    def entries(self, source: FilesSource) -> dict[str, dict[str, Any]]:
        """Return the keys of the source that the spec lacks, as the spec takes them."""
        from penstock.sources.text.spec_form import guessed_columns, guessed_dialect

        found = {
            source.format: guessed_dialect(source, self.dialect),
            "columns": guessed_columns(source, self.types),
        }
        return {key: entries for key, entries in found.items() if entries}


def write_guesses(file: Path, guesses: Mapping[str, Guess]) -> tuple[str, ...]:
    """Write guesses into a pipeline file. Return the sources that changed.

    Raises:
        SpecError: the file cannot be read.
    """
    content = file.read_bytes()
    pipeline = parse_pipeline(content, str(file))
    text = before = content.decode("utf-8")
    changed = []
    for name, source in pipeline.sources.items():
        if isinstance(source, FilesSource):
            text = _write_source(text, name, source, guesses.get(name))
            changed += [name] if text != before else []
            before = text
    if changed:
        _refuse_other_changes(pipeline, parse_pipeline(text.encode(), str(file)))
        part = file.with_name(f".{file.name}.part")
        part.write_bytes(text.encode())
        part.chmod(file.stat().st_mode)
        os.replace(part, file)
    return tuple(changed)


def _write_source(text: str, name: str, source: FilesSource, guess: Guess | None) -> str:
    place = ("sources", name)
    if source.text:
        moved = {column: "string" for column in source.text if column not in source.columns}
        if source.columns:
            text = remove_entry(add_entries(text, (*place, "columns"), moved), (*place, "text"))
        else:
            text = replace_entry(text, (*place, "text"), "columns", moved)
    for key, entries in (guess.entries(source) if guess else {}).items():
        text = add_entries(text, (*place, key), entries)
    return text


def _refuse_other_changes(before: Pipeline, after: Pipeline) -> None:
    """Check that nothing but the guessed keys has changed, before the file is replaced."""
    ours = {"csv", "json_", "columns", "text"}
    sources = dict.fromkeys(before.sources, ours)
    was, now = (p.model_dump(exclude={"sources": sources}) for p in (before, after))
    if was != now:
        raise AssertionError("the edit of the pipeline file changes other keys")
