"""Whose turn it is on a connection that several sessions share."""

from __future__ import annotations

import threading
from time import monotonic
from typing import Protocol

from dbsession.errors import NotSupportedError, PoolTimeout

__all__ = ["Taker", "Turn"]

_SLICE = 0.05  # seconds between two looks at a holder that may have been collected as garbage


class Taker(Protocol):
    """Something that wants a connection for itself for a while."""

    @property
    def is_abandoned(self) -> bool:
        """Whether nobody is left to give its turn back."""
        ...


class Turn:
    """Lets one taker at a time use a connection: for one batch, or from BEGIN to the end of the transaction.

    What another one sent meanwhile would become a part of that transaction, or see what nobody may see yet.
    So another thread waits, as it would wait for a lock; the same thread would wait in vain, and is refused.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._changed = threading.Condition()
        self._holder: Taker | None = None
        self._thread: threading.Thread | None = None

    def take(self, taker: Taker) -> bool:
        """Wait until it is the turn of *taker*; return whether the one before has left something behind.

        Raises:
            NotSupportedError: this very thread has the turn already, for another taker.
            PoolTimeout: another thread kept it for too long.
        """
        here = threading.current_thread()
        deadline = monotonic() + self._timeout
        left_behind = False
        with self._changed:
            while (holder := self._holder) is not None and holder is not taker:
                if holder.is_abandoned:
                    left_behind = True
                    break
                if self._thread is here:
                    raise NotSupportedError(
                        "rolled_back() (db_rollback) has one connection for all, and another session of this thread is "
                        "in a transaction on it: an outer scope, if this one is nested='independent', or that of a "
                        "suspended generator. What is sent now would become a part of that transaction. Commit the "
                        "other one first, or test this without rolled_back()",
                        nothing_sent=True,
                    )
                if monotonic() > deadline:
                    raise self._too_long()
                self._changed.wait(_SLICE)
            self._holder = taker
            self._thread = here
        return left_behind

    def give_back(self, taker: Taker) -> None:
        """Let the next one have its turn, if *taker* has it."""
        with self._changed:
            if self._holder is taker:
                self._holder = self._thread = None
                self._changed.notify_all()

    def _too_long(self) -> PoolTimeout:
        name = self._thread.name if self._thread is not None else "nobody"
        return PoolTimeout(
            f"rolled_back() (db_rollback) has one connection for all threads, and the thread {name} has been in a "
            f"transaction on it for {self._timeout:g} seconds. End that transaction before waiting for another "
            f"thread, or test this without rolled_back()",
            nothing_sent=True,
        )
