"""What a few lines of code sent to a database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dbsession import Database


@dataclass
class Sent:
    """The difference that a block made to the counters of a database; complete when the block has ended."""

    statements: int = 0
    round_trips: int = 0
    transactions: int = 0


@contextmanager
def counted(db: Database) -> Iterator[Sent]:
    """Count what is sent within the block; when it has ended, ``sent.round_trips`` and the others are known."""
    counters, sent = db.counters, Sent()
    before = (counters.statements, counters.round_trips, counters.transactions)
    try:
        yield sent
    finally:
        sent.statements = counters.statements - before[0]
        sent.round_trips = counters.round_trips - before[1]
        sent.transactions = counters.transactions - before[2]
