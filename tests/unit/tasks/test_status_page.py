"""The status page does not parse the spec of the pipeline that has just run."""

from pathlib import Path

import pytest

from penstock.tasks.status_page import _reads_as


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("name: churn\n", True),
        ("# a comment\nname:  churn  # of customers\nmodel: name\n", True),
        ("name: churn\r\nmodel: m\r\n", True),
        ("name: churn-weekly\n", False),
        ("source:\n  name: churn\n", False),
        ("name: other\nnote: |\n  text\n name: churn\n", False),
        ("name: churn\nname: other\n", False),  # parsed, and refused
        ("name: 'churn'\n", False),  # parsed, which is never wrong
    ],
)
def test_only_a_file_with_the_name_is_taken_as_parsed(tmp_path: Path, text: str, same: bool) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_bytes(text.encode())

    assert _reads_as(file, "churn") is same
