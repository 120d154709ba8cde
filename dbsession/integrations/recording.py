"""What code sends to a database, recorded and counted: `recorded`, `assert_queries`, `assert_round_trips`."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import TypeAlias

from dbsession.backends.base import Connection
from dbsession.backends.flow import Flow, execute
from dbsession.backends.statements import Batch, Kind, Result, Statement
from dbsession.database import Database
from dbsession.scope import retry
from dbsession.session.sql_log import SqlLog
from dbsession.session.taps import taps

__all__ = ["Recording", "RoundTrip", "assert_queries", "assert_round_trips", "is_query", "recorded"]

_Limits: TypeAlias = tuple[int, int | None]

_QUERY = ("query", "queries")
_ROUND_TRIP = ("round trip", "round trips")
_QUERIES = (Kind.READ, Kind.WRITE, Kind.RAW, Kind.CURSOR)


def is_query(statement: Statement) -> bool:
    """Tell whether *statement* does some work, and does not only begin, end or configure a transaction."""
    return statement.kind in _QUERIES and not statement.sql.startswith(("SET LOCAL ", "CLOSE "))


@dataclass
class RoundTrip:
    """Statements that were sent together, and the error that they ended with, if they did."""

    statements: Sequence[Statement] = field(repr=False)
    error: BaseException | None = None


class Recording:
    """What was sent to one database, in its order: `round_trips`, `statements`, `queries`, `sql`; how many `retries`.

    `str()` shows the SQL, a line for each statement, by round trips; the values of parameters only with
    ``show_values=True``. It goes on as long as the block of `recorded` does, for all threads.
    """

    def __init__(self, database: Database, *, show_values: bool = False) -> None:
        self.counters = database.counters
        self.round_trips: list[RoundTrip] = []
        self.retried: list[Exception] = []
        """The error of each run of a scope with ``retry=`` (on whatever database) that was followed by another one."""
        self._name = str(database)
        self._log = SqlLog(is_on=True, shows_values=show_values)

    def __repr__(self) -> str:
        return (
            f"<Recording of {self._name}: {len(self.queries)} queries, {len(self.round_trips)} round trips, "
            f"{self.transactions} transactions, {self.retries} retries>"
        )

    def __str__(self) -> str:
        lines: list[str] = []
        for number, trip in enumerate(self.round_trips, 1):
            for place, statement in enumerate(trip.statements):
                lines.append(f"{'' if place else f'{number}.':>5} {self._log.line(statement)}")
            if trip.error is not None:
                lines.append(f"      -- {type(trip.error).__name__}: {trip.error}")
        return "\n".join(lines)

    @property
    def statements(self) -> list[Statement]:
        """All statements, those that begin and end transactions too."""
        return [statement for trip in self.round_trips for statement in trip.statements]

    @property
    def queries(self) -> list[Statement]:
        """The statements that do some work; one with several rows of parameters counts once."""
        return [statement for statement in self.statements if is_query(statement)]

    @property
    def sql(self) -> list[str]:
        """The SQL of the queries."""
        return [statement.sql for statement in self.queries]

    @property
    def transactions(self) -> int:
        """How many transactions were begun; a single write that commits itself is none."""
        return sum(statement.kind is Kind.BEGIN for statement in self.statements)

    @property
    def retries(self) -> int:
        """How often a scope with ``retry=`` was run again."""
        return len(self.retried)

    def pass_on(self, batch: Batch, connection: Connection) -> Flow[list[Result]]:
        """Record *batch*."""
        trip = RoundTrip(batch)
        self.round_trips.append(trip)
        try:
            return (yield from execute(*batch))
        except BaseException as error:
            trip.error = error
            raise


@contextmanager
def recorded(database: Database, *, show_values: bool = False) -> Generator[Recording]:
    """Record what is sent to *database* within the block, by all sessions, those that are open already too.

    *show_values*: the text of the recording has the values of parameters.
    """
    recording = Recording(database, show_values=show_values)
    listener = recording.retried.append
    taps.append(recording)
    retry.listeners.append(listener)
    try:
        yield recording
    finally:
        taps.remove(recording)
        retry.listeners.remove(listener)


class _Expectation:
    """A block that has to send a certain number of something.

    A class, and no generator: test runners show the line of the block, and nothing of ours.
    """

    def __init__(self, block: AbstractContextManager[Recording], words: tuple[str, str], limits: _Limits) -> None:
        self._block = block
        self._words = words
        self._low, self._high = limits

    def __enter__(self) -> Recording:
        self._recording = self._block.__enter__()
        return self._recording

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        self._block.__exit__(exc_type, exc, traceback)
        recording = self._recording
        found = len(recording.queries if self._words == _QUERY else recording.round_trips)
        if exc_type is not None or (found >= self._low and (self._high is None or found <= self._high)):
            return
        sent = f"; this was sent, by round trips:\n{recording}" if recording.round_trips else ": nothing was sent"
        raise AssertionError(f"{self._wanted()} expected, {found} made{sent}")

    def _wanted(self) -> str:
        if self._low == self._high:
            return f"{self._low} {self._words[self._low != 1]}"
        limits = [f"at least {self._low}"] * bool(self._low) + [f"at most {self._high}"] * (self._high is not None)
        return f"{' and '.join(limits)} {self._words[1]}"


def assert_queries(
    database: Database,
    number: int | None = None,
    *,
    at_most: int | None = None,
    at_least: int | None = None,
    show_values: bool = False,
) -> AbstractContextManager[Recording]:
    """Fail unless the block sends *number* queries to *database*; the error shows what was sent.

    A query is a statement that does some work: BEGIN, COMMIT, savepoints and SET LOCAL are not counted, an
    UPDATE that runs for a hundred rows is one. Changes are sent by the flush: put the whole scope into the block,
    or flush at its end. Give *number*, or *at_most* and *at_least*.

    Raises:
        AssertionError: another number was sent.
        TypeError: no number was given, or both kinds of them.
    """
    limits = _limits(number, at_most, at_least)
    return _Expectation(recorded(database, show_values=show_values), _QUERY, limits)


def assert_round_trips(
    database: Database,
    number: int | None = None,
    *,
    at_most: int | None = None,
    at_least: int | None = None,
    show_values: bool = False,
) -> AbstractContextManager[Recording]:
    """Fail unless the block needs *number* round trips to *database*; the error shows what was sent.

    Everything that waits for the database once is one, whatever it carries. SQLite has no network, and counts
    the same. Give *number*, or *at_most* and *at_least*.

    Raises:
        AssertionError: there was another number of them.
        TypeError: no number was given, or both kinds of them.
    """
    limits = _limits(number, at_most, at_least)
    return _Expectation(recorded(database, show_values=show_values), _ROUND_TRIP, limits)


def _limits(number: int | None, at_most: int | None, at_least: int | None) -> _Limits:
    if (number is None) is (at_most is None and at_least is None):
        raise TypeError("say how many there have to be: a number, or at_most= and at_least=")
    if number is not None:
        return number, number
    return at_least or 0, at_most
