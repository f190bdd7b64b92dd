"""What work costs: clocks that are not counted twice, memory as the system tells it, prices."""

import dataclasses
import os
import subprocess
import sys
import time

import pytest

from penstock.resources.usage import (
    GB,
    NO_PRICES,
    PartitionMeter,
    Prices,
    RunMeter,
    Spent,
    covered,
    format_bytes,
    held_memory,
    peak_memory,
    process_name,
)

ELSEWHERE = Spent("other:1", 10.0, 14.0, 100, 10, 2 * GB)


def burn(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def test_what_partitions_side_by_side_share_of_one_clock_counts_once() -> None:
    assert covered([(3.0, 9.0), (0.0, 5.0), (4.0, 6.0), (20.0, 21.0)]) == 10.0
    assert covered([]) == 0.0


def test_a_runs_cpu_is_its_own_processs_and_that_of_partitions_elsewhere() -> None:
    meter = RunMeter(NO_PRICES)
    here = PartitionMeter()
    burn(0.2)
    meter.add(here.read(bytes_written=5))  # this process's clock tells it already
    meter.add(ELSEWHERE)
    meter.add(dataclasses.replace(ELSEWHERE, cpu_begun=12.0, cpu_ended=16.0))

    usage = meter.read()

    assert 6.2 <= usage.cpu_seconds < 7.0
    assert (usage.processes, usage.bytes_read, usage.bytes_written, usage.cost) == (2, 200, 25, None)


def test_the_peak_of_several_processes_is_the_sum_of_each_ones_most() -> None:
    meter = RunMeter(NO_PRICES)
    for spent in (ELSEWHERE, dataclasses.replace(ELSEWHERE, peak_bytes=3 * GB)):
        meter.add(spent)

    assert 3 * GB < meter.read().peak_bytes <= 3 * GB + peak_memory()


def test_a_runs_peak_is_never_below_the_peak_of_a_partition_in_the_same_process() -> None:
    meter = RunMeter(NO_PRICES)
    measured = PartitionMeter().read(bytes_written=5)
    meter.add(dataclasses.replace(measured, peak_bytes=measured.peak_bytes + GB))  # the system reports less afterwards

    usage = meter.read()

    assert (usage.peak_bytes, usage.processes) == (measured.peak_bytes + GB, 1)


def test_memory_is_what_this_process_holds_and_has_held() -> None:
    before = held_memory()
    block = bytearray(os.urandom(1) * 64 * 2**20)
    assert held_memory() - before > 48 * 2**20
    del block
    assert peak_memory() - before > 48 * 2**20
    assert held_memory() <= peak_memory()


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="only /proc tells a process's own peak")
def test_a_child_does_not_bear_its_parents_peak() -> None:
    block = bytearray(os.urandom(1) * 256 * 2**20)
    code = "from penstock.resources.usage import peak_memory; print(peak_memory())"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(told) < len(block)


def test_the_cost_is_cpu_hours_and_gigabyte_hours_by_their_price() -> None:
    assert Prices(2.0, 0.5).cost(cpu_seconds=1800, peak_bytes=3 * GB, seconds=7200) == 1.0 + 3.0
    assert Prices(2.0).cost(1800, 3 * GB, 7200) == 1.0
    assert Prices(None, 0.5).cost(1800, 3 * GB, 7200) == 3.0
    assert NO_PRICES.cost(1800, 3 * GB, 7200) is None


def test_a_name_of_a_process_tells_machine_and_process() -> None:
    assert process_name().endswith(f":{os.getpid()}")


@pytest.mark.parametrize(
    ("size", "told"), [(12, "12 B"), (820 * 1024, "820 KiB"), (int(1.44 * GB), "1.4 GiB"), (2**20, "1.0 MiB")]
)
def test_sizes_are_told_as_people_read_them(size: int, told: str) -> None:
    assert format_bytes(size) == told
