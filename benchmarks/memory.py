"""How many bytes one loaded object takes: tracemalloc around a load, in a fresh process."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.contenders import Contender

__all__ = ["MEMORY", "Footprint", "footprint"]

MEMORY = "memory"
"""What the section is called on the command line."""


@dataclass(frozen=True)
class Footprint:
    """Bytes for one object of a list that is held, everything that hangs on it included."""

    loaded: float
    """In the session, untouched."""
    read: float
    """In the session, every attribute read once."""
    after: float
    """The same list, after its session."""


def footprint(contender: Contender) -> Footprint:
    """Load every row and weigh it.

    What Python's allocators gave out is counted, buffers of the C drivers are not. One load before
    fills the caches of the library, so that they are not counted as objects.
    """
    contender.load(contender.checksum)
    gc.collect()
    tracemalloc.start()
    base = tracemalloc.get_traced_memory()[0]

    def weigh() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - base

    def inside(items: Sequence[Any]) -> tuple[int, int]:
        loaded = weigh()
        contender.checksum(items)
        return loaded, weigh()

    try:
        items, (loaded, read) = contender.load(inside)
        after = weigh()
    finally:
        tracemalloc.stop()
    count = len(items)
    return Footprint(loaded / count, read / count, after / count)
