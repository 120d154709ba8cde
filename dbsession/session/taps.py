"""Taps: what tests put between the sessions of a database and its connections, to watch or to let fail what is sent.

A tap is a flow around each batch, so it is written once for both colours. It works on sessions that are
open already, too. Where there is none, the price is one look at an empty list for each batch.
"""

from __future__ import annotations

from typing import Protocol

from dbsession.backends.base import Backend, Connection, Counters
from dbsession.backends.flow import Executor, Flow, run
from dbsession.backends.statements import Batch, Result

__all__ = ["Tap", "tapped", "taps"]


class Tap(Protocol):
    """Something that every batch to one database passes."""

    counters: Counters
    """Those of the database: it keeps them when it is closed and opened again."""

    def pass_on(self, batch: Batch, connection: Connection) -> Flow[list[Result]]:
        """Send *batch*, or what is to be sent in its place, and return the replies to it."""
        ...


taps: list[Tap] = []
"""The first one stands next to the connection, the last one next to the session."""


class _Tapped:
    """A connection behind a tap."""

    __slots__ = ("_behind", "_connection", "_tap")

    def __init__(self, tap: Tap, connection: Connection, behind: Executor) -> None:
        self._tap = tap
        self._connection = connection
        self._behind = behind

    def execute(self, batch: Batch) -> list[Result]:
        return run(self._tap.pass_on(batch, self._connection), self._behind)


def tapped(backend: Backend, connection: Connection) -> Executor:
    """Return *connection* of *backend* with the taps of that database before it."""
    executor: Executor = connection
    for tap in taps:
        if tap.counters is backend.counters:
            executor = _Tapped(tap, connection, executor)
    return executor
