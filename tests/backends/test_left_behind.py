"""What user-written SQL leaves on a connection does not reach the next session."""

from __future__ import annotations

import pytest

from dbsession import Database, OptimisticCheckError, ProgrammingError, Required, db_session
from dbsession.backends.postgres_settings import leaves_settings


@pytest.mark.parametrize(
    "sql",
    [
        "set search_path = pg_catalog",
        "SET statement_timeout TO 5",
        "set session characteristics as transaction read only",
        "SET TIME ZONE 'UTC'",
        "listen news",
        "create temp table t (a int)",
        "CREATE TEMPORARY TABLE t AS SELECT 1",
        "select pg_advisory_lock(1)",
        "select set_config('a.b', '1', false)",
    ],
)
def test_settings_are_recognised(sql: str) -> None:
    """110. Each of these would be seen by the session that gets the connection next."""
    assert leaves_settings(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE t SET a = 1",
        "update t as x\n set a = 1, b = 2 where c = 3",
        "insert into t values (1) on conflict (a) do update set a = 2",
        "set local statement_timeout = 5",
        "SET CONSTRAINTS ALL DEFERRED",
        "select 1",
    ],
)
def test_ordinary_statements_are_not(sql: str) -> None:
    """110. What ends with its transaction, or is no setting, costs no connection."""
    assert not leaves_settings(sql)


def test_a_setting_does_not_reach_the_next_session_on_postgresql(postgres_url: str) -> None:
    """110. A search path that a session has set is not that of the next one."""
    db = Database(postgres_url)
    with db_session:
        db.execute("SET search_path = pg_catalog")
        assert db.get("SHOW search_path") == "pg_catalog"
    with db_session:
        assert db.get("SHOW search_path") != "pg_catalog"
    db.close()


def test_a_temporary_table_does_not_reach_the_next_session_on_sqlite(sqlite_file_url: str) -> None:
    """110. A temporary table goes with the session that made it."""
    db = Database(sqlite_file_url)
    for _ in range(2):
        with db_session:
            db.execute("CREATE TEMP TABLE scratch (a INTEGER)")
    db.close()


def test_copy_is_refused(postgres_url: str) -> None:
    """86. COPY to and from the client is an error that says so, and not a lost connection."""
    db = Database(postgres_url)
    with db_session:
        with pytest.raises(ProgrammingError, match="use INSERT"):
            db.execute("COPY (SELECT 1) TO STDOUT")
        assert db.get("SELECT 1") == 1
    db.close()


def test_a_conflict_with_its_own_statement_is_not_blamed_on_others(db: Database) -> None:
    """89. A row that the session has changed by raw SQL since it read it is a conflict, whose message names that cause."""

    class Item(db.Entity):  # type: ignore[name-defined, misc]
        count = Required(int)
        name = Required(str)

    db.generate_mapping(create_tables=True)
    with db_session:
        Item(count=1, name="a")
    with pytest.raises(OptimisticCheckError, match=r"or by the db\.execute\(\) of this session"), db_session:
        item = Item[1]
        assert item.count == 1
        db.execute("UPDATE item SET count = count + 1")
        item.name = "b"
