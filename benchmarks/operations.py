"""What is measured, and the proof that it was really done.

An `Operation` runs on a contender with the clock on; its *check* looks at what came back and *after*
says what the table must hold. Both are asked when the clock is off.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks import data
from benchmarks.contenders import Contender
from benchmarks.data import Sizes, Stored

__all__ = ["OPERATIONS", "Clock", "Operation", "WrongResult", "measure"]


class WrongResult(Exception):
    """A contender was fast, but did not do what was asked."""


class Clock:
    """Wall time between the last `start` and `stop`."""

    seconds: float = 0.0
    _began: float = 0.0

    def start(self) -> None:
        """Collect garbage, then start; a second start forgets the first."""
        gc.collect()
        self._began = time.perf_counter()

    def stop(self) -> None:
        """Stop."""
        self.seconds = time.perf_counter() - self._began


@dataclass(frozen=True)
class Work:
    """What an operation is given: made before the clock starts."""

    sizes: Sizes
    rows: list[data.Row]
    keys: list[int]


@dataclass(frozen=True)
class Operation:
    """One row of the report."""

    name: str
    title: str
    unit: str
    """What one is: the time is divided by `count` of these."""
    count: Callable[[Sizes], int]
    run: Callable[[Contender, Work, Clock], Any]
    check: Callable[[Contender, Work, Any], bool]
    """Is what `run` returned right?"""
    filled: bool = True
    """Whether the table holds the rows before, or nothing."""
    after: Callable[[Sizes], list[Stored]] | None = None
    """What the table holds afterwards; None: the operation only reads."""


def measure(contender: Contender, operation: Operation, sizes: Sizes) -> float:
    """Return microseconds for one unit of *operation*.

    An operation that only reads runs once before, unmeasured: statements are prepared and compiled,
    the pages are in the cache, for everybody alike.

    Raises:
        WrongResult: the contender returned something else than the rows say.
    """
    work = Work(
        sizes,
        data.seeds(sizes.singles if operation.name == "insert-single" else sizes.rows),
        data.keys(sizes.gets, sizes.rows),
    )
    clock = Clock()
    if operation.after is None:
        operation.run(contender, work, clock)
    clock.start()
    result = operation.run(contender, work, clock)
    clock.stop()
    if not operation.check(contender, work, result):
        raise WrongResult(f"{operation.name}: the result is not what the rows say")
    return clock.seconds / operation.count(sizes) * 1e6


def _no_result(_contender: Contender, _work: Work, result: Any) -> bool:
    return result is None


def _loaded(contender: Contender, work: Work, result: Any) -> bool:
    items, _ = result
    return sorted(contender.rows(items)) == data.stored(work.sizes.rows)


def _read(contender: Contender, work: Work, result: Any) -> bool:
    _, found = result
    return bool(found == data.total(data.stored(work.sizes.rows))) and _loaded(contender, work, result)


def _amounts(_contender: Contender, work: Work, result: Any) -> bool:
    rows = data.stored(work.sizes.rows)
    return bool(result == sum(rows[key - 1][2] for key in work.keys))


def _ran(_contender: Contender, work: Work, result: Any) -> bool:
    return bool(result == work.sizes.scopes)


OPERATIONS = (
    Operation(
        name="insert-single",
        title="insert one object, commit",
        unit="transaction",
        count=lambda sizes: sizes.singles,
        run=lambda contender, work, _: contender.insert_single(work.rows),
        check=_no_result,
        filled=False,
        after=lambda sizes: data.stored(sizes.singles),
    ),
    Operation(
        name="insert-many",
        title="insert {rows} objects, one commit",
        unit="row",
        count=lambda sizes: sizes.rows,
        run=lambda contender, work, _: contender.insert_many(work.rows),
        check=_no_result,
        filled=False,
        after=lambda sizes: data.stored(sizes.rows),
    ),
    Operation(
        name="load",
        title="load {rows} objects, untouched",
        unit="row",
        count=lambda sizes: sizes.rows,
        run=lambda contender, _work, _: contender.load(len),
        check=_loaded,
    ),
    Operation(
        name="load-read",
        title="load {rows} objects, read every attribute",
        unit="row",
        count=lambda sizes: sizes.rows,
        run=lambda contender, _work, _: contender.load(contender.checksum),
        check=_read,
    ),
    Operation(
        name="get-session",
        title="get by key, a session each",
        unit="get",
        count=lambda sizes: sizes.gets,
        run=lambda contender, work, _: contender.get_sessions(work.keys),
        check=_amounts,
    ),
    Operation(
        name="get-within",
        title="get by key, within one session",
        unit="get",
        count=lambda sizes: sizes.gets,
        run=lambda contender, work, _: contender.get_within(work.keys),
        check=_amounts,
    ),
    Operation(
        name="query",
        title="query a value by a condition, within one session",
        unit="query",
        count=lambda sizes: sizes.gets,
        run=lambda contender, work, _: contender.query_within(work.keys),
        check=_amounts,
    ),
    Operation(
        name="change",
        title="change {rows} loaded objects, one commit",
        unit="row",
        count=lambda sizes: sizes.rows,
        run=lambda contender, _work, clock: contender.change(clock.start),
        check=_no_result,
        after=lambda sizes: data.stored(sizes.rows, raised=1),
    ),
    Operation(
        name="scope-with",
        title="empty scope, with statement",
        unit="scope",
        count=lambda sizes: sizes.scopes,
        run=lambda contender, work, _: contender.scope_with(work.sizes.scopes),
        check=_ran,
    ),
    Operation(
        name="scope-decorator",
        title="empty scope, decorated function",
        unit="call",
        count=lambda sizes: sizes.scopes,
        run=lambda contender, work, _: contender.scope_decorator(work.sizes.scopes),
        check=_ran,
    ),
)
