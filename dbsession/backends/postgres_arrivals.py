"""What a server has said unasked on a connection where nothing is under way: a notice, or that it is the end."""

from __future__ import annotations

import select

import psycopg
from psycopg.errors import Diagnostic

from dbsession.backends.postgres_pipeline import Link

__all__ = ["Arrivals"]


class Arrivals:
    """Tells without waiting (0.3 us) whether the server has ended a connection."""

    __slots__ = ("_link", "_poll")

    def __init__(self, link: Link) -> None:
        self._link = link
        self._poll: select.poll | None = None
        if hasattr(select, "poll"):
            self._poll = select.poll()
            self._poll.register(link.pgconn.socket, select.POLLIN)

    def waiting(self) -> bool:
        """Say whether something has arrived."""
        if self._poll is None:
            return bool(select.select([self._link.pgconn.socket], [], [], 0)[0])
        return bool(self._poll.poll(0))

    def read(self) -> psycopg.Error | None:
        """Take in what has arrived; return the error that the connection has ended with, if it has.

        The server says FATAL before it closes, and may take a moment between the two. To libpq, which
        has asked for nothing, that is a notice like any other.
        """
        ends: list[psycopg.Error] = []

        def hear(diagnostic: Diagnostic) -> None:  # which can be read here only
            if diagnostic.severity_nonlocalized in ("FATAL", "PANIC"):
                ends.append(_error(diagnostic))

        self._link.add_notice_handler(hear)
        try:
            while not ends and self.waiting():
                self._link.pgconn.consume_input()
                self._link.pgconn.is_busy()  # lets libpq understand what it has read
        except psycopg.OperationalError as exc:
            ends.append(exc)
        finally:
            self._link.remove_notice_handler(hear)
        return ends[0] if ends else None


def _error(diagnostic: Diagnostic) -> psycopg.Error:
    try:
        cls = psycopg.errors.lookup(diagnostic.sqlstate or "")
    except KeyError:
        cls = psycopg.OperationalError
    return cls(diagnostic.message_primary or "")
