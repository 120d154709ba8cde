"""db_session(ddl=True): schema changes, whose foreign keys are looked at before the commit."""

import pytest

from dbsession import NestedScopeError, Optional, Required, Set, TransactionIntegrityError, db_session
from tests.observing import elsewhere, rows


class Odd(Exception):
    pass


@pytest.fixture
def sqlite(db_url, db):
    """The database, if it is SQLite: PostgreSQL never lets a reference go to nothing."""
    if not db_url.startswith("sqlite"):
        pytest.skip("PostgreSQL checks foreign keys at once")

    class Parent(db.Entity):
        name = Required(str)
        children = Set("Child")

    class Child(db.Entity):
        parent = Optional(Parent, column="parent")

    db.generate_mapping(create_tables=True)
    return db


ORPHAN = "INSERT INTO Child (parent) VALUES (99)"


def test_a_table_can_be_rebuilt(sqlite):
    """6. ddl=True: a table that others refer to can be dropped and made again, as SQLite's own manual has it."""
    with db_session:
        parent = sqlite.entities["Parent"](name="a")
        sqlite.entities["Child"](parent=parent)
    with db_session(ddl=True):
        sqlite.execute("CREATE TABLE new (id INTEGER PRIMARY KEY, name TEXT NOT NULL, age INTEGER)")
        sqlite.execute("INSERT INTO new (id, name) SELECT id, name FROM Parent")
        sqlite.execute("DROP TABLE Parent")
        sqlite.execute("ALTER TABLE new RENAME TO Parent")
    assert rows(sqlite, "SELECT age FROM Parent") == [None]
    with pytest.raises(TransactionIntegrityError), db_session:  # foreign keys are checked again
        sqlite.execute(ORPHAN)


def test_references_to_nothing_are_not_committed(sqlite):
    """61. What the schema change has left without its row is named at the commit, and nothing is saved."""
    with pytest.raises(TransactionIntegrityError, match="row 1 of Child refers to Parent"), db_session(ddl=True):
        sqlite.execute("CREATE TABLE made (id INTEGER)")
        sqlite.execute(ORPHAN)
    assert rows(sqlite, "SELECT name FROM sqlite_master WHERE name = 'made'") == []


def test_what_an_inner_scope_has_undone_is_not_looked_at(sqlite):
    """75. An inner scope made a reference to nothing, and failed: the outer one commits."""
    with db_session(ddl=True):
        sqlite.execute("CREATE TABLE made (id INTEGER)")
        with pytest.raises(Odd), db_session:
            sqlite.execute(ORPHAN)
            raise Odd
    assert rows(sqlite, "SELECT name FROM sqlite_master WHERE name = 'made'") == ["made"]
    assert rows(sqlite, "SELECT count(*) FROM Child") == [0]


def test_ddl_within_what_may_run_again(db):
    """6. An inner ddl scope within a scope with retry, or one that only reads, is refused, though nothing was sent yet."""
    for outer in (db_session(retry=2), db_session(read_only=True)):

        @outer
        def work():
            with db_session(ddl=True):
                pass

        with pytest.raises(NestedScopeError, match="rules out: ddl and"):
            work()


def test_a_schema_change_outside_transactions_is_not_run_again(db):
    """98. execute(..., autocommit=True) has saved something: an error behind it is no reason to run the work again."""
    with db_session(ddl=True) as session:
        db.execute("CREATE TABLE made (id INTEGER)", autocommit=True)
        assert elsewhere(lambda: rows(db, "SELECT count(*) FROM made")) == [0]
        assert session._core.has_committed
