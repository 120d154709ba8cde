"""The plugin for pytest: `db_rollback`, `assert_queries`, `assert_round_trips`.

It is found by pytest where dbsession is installed. Nothing happens to tests that do not ask for one of its fixtures.
Say which database is meant, in conftest.py::

    @pytest.fixture
    def dbsession_database():
        return db  # or several: (db, archive)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeAlias

import pytest

from dbsession.database import Database
from dbsession.integrations.recording import Recording
from dbsession.integrations.recording import assert_queries as assert_queries_of
from dbsession.integrations.recording import assert_round_trips as assert_round_trips_of
from dbsession.integrations.rollback import rolled_back

__all__ = ["AssertNumber", "assert_queries", "assert_round_trips", "db_rollback", "dbsession_database"]

_Databases: TypeAlias = Database | Sequence[Database]


class AssertNumber(Protocol):
    """What the fixtures `assert_queries` and `assert_round_trips` give."""

    def __call__(
        self,
        number: int | None = None,
        *,
        at_most: int | None = None,
        at_least: int | None = None,
        show_values: bool = False,
        database: Database | None = None,
    ) -> AbstractContextManager[Recording]:
        """Fail unless the block sends so much to *database*, which may be left out where the test has one."""
        ...


@pytest.fixture
def dbsession_database() -> _Databases:
    """Name the database, or several, that the other fixtures are for: override it."""
    raise pytest.UsageError(
        "say which database the tests are for: override the fixture dbsession_database, as in conftest.py:\n\n"
        "    @pytest.fixture\n"
        "    def dbsession_database():\n"
        "        return db"
    )


@pytest.fixture
def db_rollback(dbsession_database: _Databases) -> Iterator[_Databases]:
    """Undo at the end of the test all that it has done to its database(s), what was committed included."""
    with rolled_back(*_all(dbsession_database)):
        yield dbsession_database


@pytest.fixture
def assert_queries(dbsession_database: _Databases) -> AssertNumber:
    """Count the queries to the database of the test, as the function of the same name does."""

    def assert_number(
        number: int | None = None,
        *,
        at_most: int | None = None,
        at_least: int | None = None,
        show_values: bool = False,
        database: Database | None = None,
    ) -> AbstractContextManager[Recording]:
        found = _the_one(dbsession_database, database)
        return assert_queries_of(found, number, at_most=at_most, at_least=at_least, show_values=show_values)

    return assert_number


@pytest.fixture
def assert_round_trips(dbsession_database: _Databases) -> AssertNumber:
    """Count the round trips to the database of the test, as the function of the same name does."""

    def assert_number(
        number: int | None = None,
        *,
        at_most: int | None = None,
        at_least: int | None = None,
        show_values: bool = False,
        database: Database | None = None,
    ) -> AbstractContextManager[Recording]:
        found = _the_one(dbsession_database, database)
        return assert_round_trips_of(found, number, at_most=at_most, at_least=at_least, show_values=show_values)

    return assert_number


def _all(databases: _Databases) -> Sequence[Database]:
    return [databases] if isinstance(databases, Database) else databases


def _the_one(databases: _Databases, database: Database | None) -> Database:
    """Return *database*, or the only one of *databases*."""
    if database is not None:
        return database
    found = _all(databases)
    if len(found) != 1:
        raise TypeError(f"the test has {len(found)} databases: say which one is meant, with database=")
    return found[0]
