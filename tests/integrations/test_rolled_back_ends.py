"""Connections within `rolled_back` that die, are interrupted, or keep settings; and the pool behind the block."""

from __future__ import annotations

import psycopg
import pytest

from dbsession import Database, InterfaceError, Required, TransactionError, db_session, flush
from dbsession.backends.statements import Kind, Statement
from dbsession.integrations.testing import rolled_back
from dbsession.session.link import Link
from dbsession.session.transaction import COMMIT, ROLLBACK


def on_postgres(db):
    return db.backend.dialect.name == "postgresql"


def names(Account):
    with db_session:
        return sorted(account.name for account in Account.select())


def kill(url, pid):
    with psycopg.connect(url, autocommit=True) as watcher:
        watcher.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))


def test_a_failing_test_is_undone(db, Account):
    """128. An error that leaves the block undoes all of it, and is the error that is seen."""
    with pytest.raises(ZeroDivisionError), rolled_back(db):
        with db_session:
            Account(name="a")
            flush()
            raise ZeroDivisionError
    assert names(Account) == []


def test_a_killed_connection(postgres_url):
    """128. If the connection dies everything is undone, whatever comes next says so, and the pool is right afterwards."""
    db = Database(postgres_url)

    class Account(db.Entity):
        name = Required(str)

    db.generate_mapping(create_tables=True)
    with rolled_back(db):
        with db_session:
            Account(name="a")
            pid = db.get("SELECT pg_backend_pid()")
        kill(postgres_url, pid)
        with pytest.raises(Exception, match=r"terminat|is gone") as caught:
            names(Account)
        assert isinstance(caught.value, TransactionError | InterfaceError)

        @db_session(retry=3)
        def work():
            runs.append(1)
            Account(name="b")

        runs = []
        with pytest.raises(InterfaceError, match="with it all that was done"):
            work()
        assert runs == [1]  # it is not tried again
    with db_session:
        assert Account.select().count() == 0
        Account(name="c")
    assert names(Account) == ["c"]
    db.close()


@pytest.mark.parametrize("where", ["write", "commit"])
def test_an_interrupt(db, Account, monkeypatch, where):
    """128. A KeyboardInterrupt, before or behind a statement, leaves nothing behind; the database works afterwards."""
    with db_session:
        Account(name="before")
    kind = type(acquired(db))
    execute = kind.execute

    def interrupted(connection, batch):
        if any("INSERT" in statement.sql for statement in batch) or where == "commit":
            results = execute(connection, batch)
            if where == "write" or any(statement.sql.startswith("RELEASE") for statement in batch):
                monkeypatch.undo()
                raise KeyboardInterrupt
            return results
        return execute(connection, batch)

    with pytest.raises(KeyboardInterrupt), rolled_back(db):
        with db_session:
            Account(name="first")
        monkeypatch.setattr(kind, "execute", interrupted)
        with db_session:
            Account(name="second")
            flush()
            Account(name="third")
    assert names(Account) == ["before"]


def acquired(db):
    connection = db.backend.acquire()
    db.backend.release(connection)
    return connection


@pytest.mark.parametrize("where", ["before the database has answered", "when it has"])
def test_an_interrupt_that_is_caught(db, Account, monkeypatch, where):
    """128. A test may catch the interrupt and go on: what was under way is undone, what was committed is there."""
    cls = Link if where == "when it has" else type(acquired(db))
    execute = cls.execute

    def interrupted(link, batch):
        results = execute(link, batch)
        if any("INSERT" in statement.sql for statement in batch):
            monkeypatch.undo()
            raise KeyboardInterrupt
        return results

    with rolled_back(db):
        with db_session:
            Account(name="first")
        monkeypatch.setattr(cls, "execute", interrupted)
        with pytest.raises(KeyboardInterrupt), db_session:
            Account(name="second")
            flush()
        assert names(Account) == ["first"]
    assert names(Account) == []


def test_the_connection_goes_back(db, Account):
    """128. The connection is that of the pool, is not in a transaction when it goes back, and is used again."""
    first = acquired(db)
    with rolled_back(db):
        with db_session:
            Account(name="a")
        with pytest.raises(ZeroDivisionError), db_session:
            Account(name="b")
            flush()
            raise ZeroDivisionError
    again = acquired(db)
    assert again is first
    assert not again.in_transaction


def test_the_transaction_was_ended_by_sql(db, Account):
    """128. SQL that ends the transaction behind our back cannot be undone, and the end of the block says so."""
    if not on_postgres(db):
        pytest.skip("the driver takes one statement at a time there")
    with pytest.raises(InterfaceError, match="could not undo everything"), rolled_back(db):
        with pytest.raises(Exception, match="ended by SQL"), db_session:
            Account(name="a")
            flush()
            db.execute("SELECT 1; COMMIT")
        with pytest.raises(InterfaceError, match="is gone"):
            names(Account)
    assert names(Account) == ["a"]


def test_sqlite_rolls_back_by_itself(db, Account):
    """128. Where SQLite has rolled back everything on its own, whatever comes next says so, and nothing is left."""
    if on_postgres(db):
        pytest.skip("PostgreSQL does not")
    with rolled_back(db):
        with db_session:
            Account(name="a")
        with pytest.raises(Exception, match="UNIQUE"), db_session:
            db.execute("INSERT OR ROLLBACK INTO Account (name, balance) VALUES ('a', 1)")
        with pytest.raises(InterfaceError, match="is gone"):
            names(Account)
    assert names(Account) == []


def setting(db, name):
    with db_session:
        return db.get(f"SHOW {name}")


def test_settings_end_with_their_scope(db, Account):
    """128. Timeouts of a scope, SET LOCAL and SET end where they end in production, and not with the test."""
    if not on_postgres(db):
        pytest.skip("see the next test for SQLite")
    usual = {name: setting(db, name) for name in ("statement_timeout", "lock_timeout", "work_mem", "search_path")}
    with rolled_back(db):
        with db_session(statement_timeout=7, lock_timeout=3):
            Account(name="a")
            flush()
            assert db.get("SHOW statement_timeout") == "7s"
        assert setting(db, "statement_timeout") == usual["statement_timeout"]
        assert setting(db, "lock_timeout") == usual["lock_timeout"]
        with db_session:
            db.execute("SET LOCAL work_mem = '1MB'")
            assert db.get("SHOW work_mem") == "1MB"
        assert setting(db, "work_mem") == usual["work_mem"]
        with db_session:
            db.execute("SET search_path = pg_catalog")
        assert setting(db, "search_path") == usual["search_path"]
    assert {name: setting(db, name) for name in usual} == usual


def test_limits_of_sqlite_end_with_their_scope(db, Account):
    """128. Statement_timeout and query_only hold for their scope alone, on SQLite too."""
    if on_postgres(db):
        pytest.skip("see the test above")
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %s) SELECT count(*) FROM n"
    with rolled_back(db):
        with pytest.raises(Exception, match="statement_timeout"), db_session(statement_timeout=0.01, immediate=True):
            db.select(endless, (10**9,))
        with db_session:
            assert db.get(endless, (10**5,)) == 10**5
        with db_session:
            db.execute("PRAGMA query_only = ON")
        with db_session:
            Account(name="a")
    assert names(Account) == []


DEFERRED = "ALTER TABLE account ADD CONSTRAINT one_balance UNIQUE (balance) DEFERRABLE INITIALLY DEFERRED"
AT_ONCE = "ALTER TABLE account ADD CONSTRAINT one_balance UNIQUE (balance) DEFERRABLE INITIALLY IMMEDIATE"


def test_deferred_constraints_are_checked_at_the_commit(db, Account):
    """128. A deferred constraint fails at the commit of its scope, not before it, and not later."""
    if not on_postgres(db):
        pytest.skip("see the next test for SQLite")
    with db_session:
        db.execute(DEFERRED)
    with rolled_back(db):
        reached = []
        with pytest.raises(TransactionError, match="one_balance") as caught, db_session:
            Account(name="a", balance=1)
            Account(name="b", balance=1)
            flush()
            reached.append("the end of the scope")
        assert reached
        assert (caught.value.sql, caught.value.sqlstate) == ("COMMIT", "23505")
        with db_session:
            first, second = Account(name="a", balance=1), Account(name="b", balance=2)
        with db_session:  # each scope has it deferred anew
            db.execute("UPDATE account SET balance = 2 WHERE id = %s", (first.id,))
            db.execute("UPDATE account SET balance = 1 WHERE id = %s", (second.id,))
        with pytest.raises(TransactionError, match="one_balance"), db_session:
            Account[first.id].balance = 1  # alone, in autocommit
        with db_session:
            assert (Account[first.id].balance, Account[second.id].balance) == (2, 1)


def test_constraints_that_may_be_deferred_are_checked_at_once(db, Account):
    """128. A constraint that is checked at once unless it is deferred stays so, also after commits."""
    if not on_postgres(db):
        pytest.skip("SQLite has none")
    with db_session:
        db.execute(AT_ONCE)
    with rolled_back(db):
        for number in range(2):
            with db_session:
                Account(name=f"a{number}", balance=10 * number)
            with pytest.raises(TransactionError, match="one_balance"), db_session:
                Account(name="b", balance=10 * number)
                flush()
                pytest.fail("it was deferred")
            with db_session:
                db.execute("SET CONSTRAINTS ALL DEFERRED")
                db.execute("UPDATE account SET balance = balance + 1")


@pytest.mark.parametrize("how", ["declared", "pragma"])
def test_deferred_references_of_sqlite_are_checked_at_the_commit(db, Account, how):
    """128. A row that refers to nothing is refused at the commit of its scope, if references are deferred."""
    if on_postgres(db):
        pytest.skip("see above")
    deferred = "DEFERRABLE INITIALLY DEFERRED" if how == "declared" else ""
    with db_session:
        db.execute(f"CREATE TABLE child (account INTEGER REFERENCES Account (id) {deferred})")
    with rolled_back(db):
        reached = []
        with pytest.raises(TransactionError, match="FOREIGN KEY"), db_session:
            if how == "pragma":
                db.execute("PRAGMA defer_foreign_keys = ON")
            db.execute("INSERT INTO child VALUES (7)")
            reached.append("the end of the scope")
        assert reached
        with db_session:
            if how == "pragma":
                db.execute("PRAGMA defer_foreign_keys = ON")
            db.execute("INSERT INTO child VALUES (1)")
            Account(id=1, name="a")
        with db_session:
            assert db.select("SELECT account FROM child") == [1]
        if how == "pragma":  # it ends with the transaction, however that ends
            with pytest.raises(ZeroDivisionError), db_session:
                db.execute("PRAGMA defer_foreign_keys = ON")
                raise ZeroDivisionError
            with pytest.raises(TransactionError, match="FOREIGN KEY"), db_session:
                db.execute("INSERT INTO child VALUES (8)")
                pytest.fail("it was deferred")
            with db_session:
                db.execute("PRAGMA defer_foreign_keys = ON")
            with pytest.raises(TransactionError, match="FOREIGN KEY"), db_session:
                db.execute("INSERT INTO child VALUES (8)")
                pytest.fail("it was deferred")


def test_what_a_deferred_trigger_does_stays(db, Account):
    """128. What a constraint trigger writes at the commit is there in the next scope, once."""
    if not on_postgres(db):
        pytest.skip("SQLite has none")
    with db_session:
        db.execute("CREATE TABLE noted (name text)")
        db.execute(
            "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN INSERT INTO noted VALUES (NEW.name); RETURN NULL; END'"
        )
        db.execute(
            "CREATE CONSTRAINT TRIGGER note AFTER INSERT ON account DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION note()"
        )
    with rolled_back(db):
        with db_session:
            Account(name="a")
            flush()
            assert db.select("SELECT name FROM noted") == []
        with db_session:
            Account(name="b")
            flush()
            assert db.select("SELECT name FROM noted") == ["a"]
        with db_session:
            assert db.select("SELECT name FROM noted") == ["a", "b"]


def test_statements_of_a_lease_in_one_batch(db, Account):
    """128. The replies to a batch are those to its own statements, whatever is sent beside them."""
    insert = Statement("INSERT INTO account (name, balance) VALUES ('a', 1)", kind=Kind.WRITE)
    count = Statement("SELECT count(*) FROM account", returns=True)
    begin = Statement("BEGIN", kind=Kind.BEGIN)
    replies = []
    for block in (rolled_back(db), rolled_back()):
        with block:
            connection = db.backend.acquire()
            found = connection.execute((begin, insert, count, COMMIT))
            replies.append([(reply.rows, reply.rowcount) for reply in found[1:3]] + [found[3].command, len(found)])
            with pytest.raises(TransactionError) as caught:
                connection.execute((begin, count, insert, count, COMMIT))
            replies.append((caught.value.statement is insert, [reply.rows for reply in caught.value.results]))
            connection.execute((ROLLBACK,))
            replies.append(connection.in_transaction)
            db.backend.release(connection)
    assert replies[:3] == replies[3:]
