"""By how much a process grows while it reads many rows: all at once, or as a stream.

What the operating system gave out is counted, so that buffers of the C drivers are in it. Each reading
has a process of its own, since memory that was used once is seldom given back.
"""

from __future__ import annotations

import gc
import re
import resource
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks import data
from benchmarks.contenders import Contender

__all__ = ["BATCH", "READINGS", "STREAM", "Growth", "growth"]

STREAM = "stream"
"""What the section is called on the command line."""

READINGS = ("fetch", "stream")
BATCH = 1000
WARM = 100


@dataclass(frozen=True)
class Growth:
    """One reading of all rows."""

    peak: float
    """Bytes that the process had more at its largest than before."""
    time: float
    """Microseconds for one row."""


def growth(contender: Contender, reading: str, rows: int) -> Growth:
    """Read every row, *reading* being one of `READINGS`, and say what it took.

    Raises:
        ValueError: what was read is not what the table holds.
        NotOffered: the contender has no streams.
    """
    contender.get_within(range(1, WARM))  # what everybody imports and connects first
    gc.collect()
    before = _reset_peak()
    began = time.perf_counter()
    if reading == STREAM:
        found = contender.stream(BATCH)
    else:
        _, found = contender.load(contender.checksum)
    seconds = time.perf_counter() - began
    peak = _peak() - before
    if found != data.total(data.each_stored(rows)):
        raise ValueError(f"the {reading} has not read what the table holds")
    return Growth(peak, seconds / rows * 1e6)


def _reset_peak() -> int:
    """Let the peak begin anew where the system can (on Linux), and return where it begins."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _peak()


def _peak() -> int:
    """Return the bytes that this process had in memory at its largest."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return largest if sys.platform == "darwin" else largest * 1024
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0
