"""What pytest loads where dbsession is installed: the fixtures `db_rollback`, `assert_queries`, `assert_round_trips`.

It stands beside the package, since to import anything of the package imports all of it: a suite that asks for none of
the fixtures pays nothing. `dbsession.integrations.pytest_plugin` has the same, and tells how to use them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

import pytest

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from dbsession import Database
    from dbsession.integrations.testing import Recording

    _Databases: TypeAlias = Database | Sequence[Database]
    _AssertNumber: TypeAlias = Callable[..., AbstractContextManager[Recording]]

__all__ = ["assert_queries", "assert_round_trips", "db_rollback", "dbsession_database"]


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
    from dbsession.integrations import testing

    with testing.rolled_back(*_all(dbsession_database)):
        yield dbsession_database


@pytest.fixture
def assert_queries(dbsession_database: _Databases) -> _AssertNumber:
    """Count the queries to the database of the test, as the function of the same name does."""
    from dbsession.integrations import testing

    return _for_one(testing.assert_queries, dbsession_database)


@pytest.fixture
def assert_round_trips(dbsession_database: _Databases) -> _AssertNumber:
    """Count the round trips to the database of the test, as the function of the same name does."""
    from dbsession.integrations import testing

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
