"""How large partitions are, and how many at once, within a limit."""

import dataclasses
import json

import pytest

from penstock.errors import MemoryTooSmall
from penstock.resources.memory import RESERVE, MemoryProfile, RequestedLoad, fit_partitions, read_fit, read_size

MIB = 2**20
PLAIN = MemoryProfile(base_bytes=200 * MIB, partition_bytes=0, row_bytes=2_000.0, audit_row_bytes=0.0)
WANTED = RequestedLoad("card-risk", rows=1_000_000, partition_rows=250_000, in_flight=2, audit_rows=100_000)


@pytest.mark.parametrize("limit", [240, 260, 300, 400, 560, 1_024, 4_096])
@pytest.mark.parametrize("partition_bytes", [0, 5 * MIB])
@pytest.mark.parametrize("audit_row", [0.0, 8.0])
@pytest.mark.parametrize("chosen_rows", [0, 5_000])
def test_what_is_in_flight_never_exceeds_the_limit_nor_what_was_wanted(
    limit: int, partition_bytes: int, audit_row: float, chosen_rows: int
) -> None:
    rows = {"audit_row_bytes": audit_row, "chosen_row_bytes": 300.0}
    footprint = dataclasses.replace(PLAIN, partition_bytes=partition_bytes, **rows)

    fit = fit_partitions(limit * MIB, footprint, dataclasses.replace(WANTED, chosen_rows=chosen_rows))

    held = footprint.base_bytes + 3 * audit_row * WANTED.audit_rows + 3 * 300.0 * chosen_rows
    flying = fit.in_flight * (partition_bytes + fit.partition_rows * footprint.row_bytes)
    assert held + flying <= limit * MIB * (1 - RESERVE)
    assert 1_000 <= fit.partition_rows <= WANTED.partition_rows
    assert 1 <= fit.in_flight <= WANTED.in_flight


def test_a_generous_limit_changes_nothing() -> None:
    fit = fit_partitions(8_192 * MIB, PLAIN, WANTED)
    assert (fit.partition_rows, fit.in_flight) == (250_000, 2)


def test_partitions_shrink_first_then_fewer_are_in_flight() -> None:
    smaller, fewer = (fit_partitions(limit * MIB, PLAIN, WANTED) for limit in (300, 250))
    assert smaller.in_flight == 2
    assert 10_000 <= smaller.partition_rows < 250_000
    assert fewer.in_flight == 1


def test_a_limit_that_holds_no_partition_is_refused_with_one_that_does() -> None:
    with pytest.raises(MemoryTooSmall, match=r"`card-risk`.*Set it to at least") as refused:
        fit_partitions(210 * MIB, PLAIN, WANTED)
    assert fit_partitions(refused.value.needed, PLAIN, WANTED).partition_rows >= 1_000


def test_a_decision_is_read_back_from_the_ledger_as_it_was_made() -> None:
    fit = fit_partitions(300 * MIB, PLAIN, WANTED)
    assert read_fit(fit.to_json()) == fit
    assert "300 MiB allow partitions of" in fit.describe()


def test_a_decision_of_a_version_without_reasons_is_read() -> None:
    plain = json.loads(fit_partitions(300 * MIB, PLAIN, WANTED).to_json())
    del plain["footprint"]["chosen_row_bytes"]

    assert read_fit(json.dumps(plain)).footprint == PLAIN


@pytest.mark.parametrize(
    ("text", "size"),
    [("1GiB", 2**30), ("2g", 2**31), ("512Mi", 2**29), ("512MB", 512_000_000), ("1.5 GiB", 3 * 2**29), ("4096", 4096)],
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert read_size(text) == size


@pytest.mark.parametrize("text", ["much", "1 GiBB", "-1g", "1x"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="1GiB"):
        read_size(text)
