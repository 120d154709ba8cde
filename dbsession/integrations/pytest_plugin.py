"""The plugin for pytest, which pytest finds by itself where dbsession is installed (see `dbsession_pytest`).

Say which database is meant, in conftest.py::

    @pytest.fixture
    def dbsession_database():
        return db  # or several: (db, archive)

Then a test may ask for `db_rollback`, which undoes all that it has done, and for `assert_queries` and
`assert_round_trips`: ``with assert_queries(2): ...``. Nothing happens to tests that do not.
"""

from __future__ import annotations

from dbsession_pytest import assert_queries, assert_round_trips, db_rollback, dbsession_database

__all__ = ["assert_queries", "assert_round_trips", "db_rollback", "dbsession_database"]
