"""Which processors the contender and the server run on.

Left alone, the scheduler puts a client and its PostgreSQL backend now on one processor, now on two,
and stays with it for seconds. One round trip over a socket costs three times as much in one case as
in the other, more than what is measured here. So the contender gets one processor and the server
the others: as if the server were another machine, so that pipelining can overlap, and alike for all.
"""

from __future__ import annotations

import os
from typing import Any

__all__ = ["CAN_PIN", "pin_contender", "pin_server"]

CAN_PIN = hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1


def pin_contender() -> None:
    """Keep this process on the first processor that it may use."""
    if CAN_PIN:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def pin_server(postmaster: Any) -> None:
    """Keep *postmaster* (a `psutil.Process`), its children now and its children to come off that processor."""
    others = sorted(os.sched_getaffinity(0))[1:] if CAN_PIN else []
    if not others:
        return
    postmaster.cpu_affinity(others)  # what it forks from now on inherits this
    for child in postmaster.children(recursive=True):
        child.cpu_affinity(others)
