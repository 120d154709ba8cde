"""Flows: logic written once, run in two colours.

A `Flow[T]` is a generator that yields batches, is sent their results, and returns a ``T``.
One yield is one round trip, so a flow shows in its text what it costs. Rules, each held by a test:

- only `execute` has a bare ``yield``; everything else says ``yield from``;
- a flow takes no lock, reads no clock, never sleeps and never looks at a ContextVar;
- no ``yield`` in ``finally`` or in ``except BaseException``: a flow that is thrown away must not
  talk to the database on its way out;
- backends turn the driver's errors into ours before they are thrown into the flow.

`run` and `arun` are the only loops, and differ by one ``await``.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol, TypeAlias, TypeVar

from dbsession.backends.statements import Batch, Result, Statement

__all__ = ["AsyncExecutor", "Executor", "Flow", "arun", "execute", "run"]

T = TypeVar("T")

Flow: TypeAlias = Generator[Batch, list[Result], T]


class Executor(Protocol):
    """Whatever runs a batch and answers with its results."""

    def execute(self, batch: Batch) -> list[Result]:
        """Run the statements of *batch* in order, in one round trip where the database can."""
        ...


class AsyncExecutor(Protocol):
    """The awaitable twin of `Executor`."""

    async def execute(self, batch: Batch) -> list[Result]:
        """Run the statements of *batch* in order, in one round trip where the database can."""
        ...


def execute(*statements: Statement) -> Flow[list[Result]]:
    """Send *statements* in one round trip and return their results."""
    return (yield statements)


def run(flow: Flow[T], executor: Executor) -> T:
    """Drive *flow* to its end with the batches answered by *executor*, and return its value."""
    try:
        batch = next(flow)
        while True:
            try:
                results = executor.execute(batch)
            except BaseException as error:  # the flow decides what an error means, so it sees each
                batch = flow.throw(error)
            else:
                batch = flow.send(results)
    except StopIteration as stop:
        value: T = stop.value
        return value


async def arun(flow: Flow[T], executor: AsyncExecutor) -> T:
    """Drive *flow* as `run` does, awaiting each batch."""
    try:
        batch = next(flow)
        while True:
            try:
                results = await executor.execute(batch)
            except BaseException as error:  # the flow decides what an error means, so it sees each
                batch = flow.throw(error)
            else:
                batch = flow.send(results)
    except StopIteration as stop:
        value: T = stop.value
        return value
