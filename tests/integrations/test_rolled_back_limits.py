"""What one transaction for a whole test cannot have, and which blocks there may be beside and within each other."""

from __future__ import annotations

import gc
import sqlite3
import threading

import pytest

from dbsession import (
    Database,
    InterfaceError,
    InvalidRequestError,
    LockNotAvailable,
    NotSupportedError,
    Required,
    Session,
    TransactionError,
    TransactionIntegrityError,
    db_session,
    flush,
)
from dbsession.integrations.testing import rolled_back
from tests.observing import elsewhere


def names(Account):
    with db_session:
        return sorted(account.name for account in Account.select())


def on_postgres(db):
    return db.backend.dialect.name == "postgresql"


def test_several_databases(db, Account):
    """128. One block serves several databases, and a scope over both commits to both."""
    other = Database("sqlite://")

    class Note(other.Entity):
        text = Required(str)

    other.generate_mapping(create_tables=True)
    with rolled_back(db, other):
        with db_session:
            Account(name="a")
            Note(text="n")
        with db_session:
            assert (Account.select().count(), Note.select().count()) == (1, 1)
    with db_session:
        assert (Account.select().count(), Note.select().count()) == (0, 0)
    other.close()


def test_blocks_within_blocks(db, Account):
    """128. The inner block undoes what was done in it, and no more: a fixture can prepare data for several tests."""
    with rolled_back(db):
        with db_session:
            Account(name="of the class")
        for name in ("first", "second"):
            with rolled_back(db):
                with db_session:
                    Account(name=name)
                with pytest.raises(TransactionIntegrityError), db_session:
                    Account(name=name)
                with pytest.raises(Exception, match=r"read.?only"), db_session(read_only=True):
                    db.execute("DELETE FROM account")
                assert names(Account) == sorted([name, "of the class"])
            assert names(Account) == ["of the class"]
    assert names(Account) == []


def test_a_scope_that_has_used_the_database_already(db, Account):
    """128. Within a scope that has a connection of its own the block is refused: its commit would not be undone."""
    with db_session:
        Account(name="a")
        with pytest.raises(InvalidRequestError, match="before any scope"), rolled_back(db):
            pass
    assert names(Account) == ["a"]


def test_a_session_that_has_used_the_database_already(db, Account):
    """128. An open session without a scope is in the way if it has used the database, and is not if it has not."""
    used, unused = Session(db), Session(db)
    used.query(Account).count()
    with pytest.raises(InvalidRequestError, match="close a session first"), rolled_back(db):
        pass
    used.close()
    with rolled_back(db):
        unused.add(Account(name="a"))
        unused.commit()
        assert names(Account) == ["a"]
        unused.close()
    assert names(Account) == []


def test_sessions_without_a_scope(db, Account):
    """128. What a session commits, or leaves open, is undone; begin_nested and rollback are as in production."""
    with rolled_back(db):
        session = Session(db)
        kept = Account(name="kept")
        session.add(kept)
        session.commit()
        session.add(Account(name="undone"))
        session.flush()
        session.rollback()
        assert session.query(Account).count() == 1
        with Session(db) as other:
            other.add(Account(name="of a block"))
        kept.balance = 7
        session.flush()  # and is never ended in the block
    with pytest.raises(InterfaceError, match="is over"):
        session.query(Account).count()
    with pytest.warns(RuntimeWarning, match="rolled back"):
        session.close()
    assert names(Account) == []


def test_a_scope_that_outlives_the_block(db, Account):
    """128. A session that goes on behind the block can do nothing more, and says why."""
    block = rolled_back(db)
    block.__enter__()
    with pytest.raises(InterfaceError, match="is over"), db_session:
        Account(name="a")
        flush()
        block.__exit__(None, None, None)
        Account(name="b")
    assert names(Account) == []


def test_autocommit_is_refused(db, Account):
    """128. Execute(..., autocommit=True) could not be undone, and is refused."""
    with rolled_back(db):
        with pytest.raises(Exception, match="rolled_back"), db_session(ddl=True):
            db.execute("DELETE FROM account", autocommit=True)
        with db_session:
            Account(name="a")
    assert names(Account) == []


def test_schema_scopes(db, Account):
    """128. Db_session(ddl=True) works on PostgreSQL; on SQLite, where it turns foreign keys off, it is refused."""
    with rolled_back(db):
        if on_postgres(db):
            with db_session(ddl=True):
                db.execute("ALTER TABLE account ADD COLUMN note text")
        else:
            with pytest.raises(Exception, match="foreign keys off") as caught, db_session(ddl=True):
                db.execute("ALTER TABLE account ADD COLUMN note text")
            assert not isinstance(caught.value, TransactionError)  # no retry would help
        with db_session:
            Account(name="a")
    with pytest.raises(Exception, match="note"), db_session:
        db.select("SELECT note FROM account")


def test_an_independent_scope(db, Account):
    """128. An independent scope within an open transaction is refused, and without one works as in production."""
    with rolled_back(db):
        with pytest.raises(ZeroDivisionError), db_session:
            Account.select().count()
            with db_session(nested="independent"):
                Account(name="inner")
            Account(name="outer")
            raise ZeroDivisionError
        assert names(Account) == ["inner"]
        with db_session:
            Account(name="outer")
            flush()
            with pytest.raises(NotSupportedError if on_postgres(db) else LockNotAvailable, match="outer"):
                with db_session(nested="independent"):
                    Account(name="second")
        assert names(Account) == ["inner", "outer"]
    assert names(Account) == []


def test_threads_take_turns(db, Account):
    """128. Work of several threads within the block is neither mixed nor lost, and is undone."""
    with rolled_back(db):

        def work(name):
            for number in range(5):
                with db_session(retry=0):
                    Account(name=f"{name}{number}")
                    flush()
                    Account(name=f"{name}{number}+")
                with pytest.raises(ZeroDivisionError), db_session:
                    Account(name=f"{name}{number}-")
                    flush()
                    raise ZeroDivisionError

        threads = [threading.Thread(target=work, args=(name,)) for name in "xy"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(names(Account)) == 20 and not any("-" in name for name in names(Account))
    assert names(Account) == []


def test_a_thread_that_would_wait_for_ever(db, Account):
    """128. A thread that is waited for within a transaction cannot have the connection, and says so."""
    with rolled_back(db, timeout=0.05), db_session:
        Account(name="a")
        flush()
        with pytest.raises(Exception, match="one connection for all threads"):
            elsewhere(names, Account)
    assert names(Account) == []


def collected(thread):
    thread.start()
    thread.join()
    gc.collect()


def test_a_session_that_is_gone(db, Account):
    """128. The work of a session that was never ended, and is garbage, is undone before the next one begins."""
    with rolled_back(db):
        with db_session:
            Account(name="kept")

        def leave_open():
            scope = db_session()
            scope.__enter__()
            Account(name="lost")
            flush()

        with pytest.warns(ResourceWarning, match="never ended"):
            collected(threading.Thread(target=leave_open))
        assert names(Account) == ["kept"]
        with db_session:
            Account(name="next")
        assert names(Account) == ["kept", "next"]
    assert names(Account) == []


def test_a_file_is_locked_for_others(sqlite_file_url, tmp_path):
    """128. Another process cannot write to a SQLite file within the block, once it was used; it sees the old data."""
    database = Database(sqlite_file_url)

    class Note(database.Entity):
        text = Required(str)

    database.generate_mapping(create_tables=True)
    other = sqlite3.connect(tmp_path / "test.db", timeout=0, isolation_level=None)
    with rolled_back(database):
        other.execute("INSERT INTO Note (text) VALUES ('of the other')")
        with db_session:
            assert Note.select().count() == 1
            Note(text="mine")
        assert other.execute("SELECT count(*) FROM Note").fetchall() == [(1,)]
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("INSERT INTO Note (text) VALUES ('too late')")
    other.execute("DELETE FROM Note")
    other.close()
    database.close()
