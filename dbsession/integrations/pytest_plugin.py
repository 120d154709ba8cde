"""The plugin for pytest, which pytest finds by itself where dbsession is installed.

Say which database is meant, in conftest.py::

    @pytest.fixture
    def dbsession_database():
        return db  # or several: (db, archive)

Then a test may ask for `db_rollback`, which undoes all that it has done, and for `assert_queries` and
`assert_round_trips`: ``with assert_queries(2): ...``. Nothing happens to tests that do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TypeAlias

import pytest

from dbsession.database import Database
from dbsession.integrations import testing
from dbsession.integrations.recording import Recording

__all__ = ["assert_queries", "assert_round_trips", "db_rollback", "dbsession_database"]

_Databases: TypeAlias = Database | Sequence[Database]
_AssertNumber: TypeAlias = Callable[..., AbstractContextManager[Recording]]


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
    with testing.rolled_back(*_all(dbsession_database)):
        yield dbsession_database


@pytest.fixture
def assert_queries(dbsession_database: _Databases) -> _AssertNumber:
    """Count the queries to the database of the test, as the function of the same name does."""
    return _for_one(testing.assert_queries, dbsession_database)


@pytest.fixture
def assert_round_trips(dbsession_database: _Databases) -> _AssertNumber:
    """Count the round trips to the database of the test, as the function of the same name does."""
    return _for_one(testing.assert_round_trips, dbsession_database)


def _all(databases: _Databases) -> Sequence[Database]:
    return databases if isinstance(databases, Sequence) else [databases]


def _for_one(count: _AssertNumber, databases: _Databases) -> _AssertNumber:
    """Return *count* for one of *databases*: the only one, or that which ``database=`` names."""

    def count_for_one(
        number: int | None = None, *, database: Database | None = None, **options: object
    ) -> AbstractContextManager[Recording]:
        if database is None:
            found = _all(databases)
            if len(found) != 1:
                raise TypeError(f"the test has {len(found)} databases: say which one is meant, with database=")
            database = found[0]
        return count(database, number, **options)

    return count_for_one
