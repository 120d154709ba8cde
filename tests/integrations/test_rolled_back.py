"""Everything that a test does is undone, and nothing else is different."""

from __future__ import annotations

import pytest

from dbsession import (
    DataError,
    OptimisticCheckError,
    ProgrammingError,
    SessionDoomed,
    TransactionIntegrityError,
    commit,
    db_session,
    flush,
    on_commit,
    on_rollback,
    raw_sql,
    rollback,
    savepoint,
    select,
)
from dbsession.integrations.testing import rolled_back
from tests.conftest import SELECTED
from tests.observing import rows, sent

DATABASES = [*SELECTED, "sqlite-file"] if "sqlite" in SELECTED else SELECTED
pytestmark = pytest.mark.parametrize("db_url", DATABASES, indirect=True)


def names(Account):
    with db_session:
        return sorted(account.name for account in Account.select())


def on_postgres(db):
    return db.backend.dialect.name == "postgresql"


def test_commits_are_undone(db, Account):
    """128. What scopes, commit() and single writes have committed within the block is seen there, and gone behind it."""
    with db_session:
        before = Account(name="before", balance=1)
    with rolled_back(db):
        with db_session:
            Account(name="scope")
        with db_session:
            Account(name="first")
            commit()
            Account(name="second")
        with db_session:
            Account[before.id].balance = 2  # one statement, in autocommit
        with db_session:
            assert Account[before.id].balance == 2
        assert names(Account) == ["before", "first", "scope", "second"]
    assert rows(db, "SELECT name, balance FROM account") == [("before", 1)]


def test_rollbacks_undo_what_they_undo_in_production(db, Account):
    """128. Rollback() and an error take back the work since the last commit, not what was committed before."""
    with rolled_back(db):
        with db_session:
            Account(name="kept")
            commit()
            Account(name="undone")
            flush()
            rollback()
            Account(name="new")
        with pytest.raises(ZeroDivisionError), db_session:
            Account(name="lost")
            flush()
            raise ZeroDivisionError
        assert names(Account) == ["kept", "new"]
    assert names(Account) == []


def test_inner_scopes(db, Account):
    """128. Inner scopes have their savepoints: one that fails is undone alone, one that ends well goes with the outer."""
    with rolled_back(db):
        with db_session:
            Account(name="outer")
            with savepoint():
                Account(name="inner")
            with pytest.raises(ZeroDivisionError), savepoint():
                Account(name="failed")
                flush()
                raise ZeroDivisionError
            Account(name="after")
        assert names(Account) == ["after", "inner", "outer"]
        with pytest.raises(ZeroDivisionError), db_session:
            with savepoint():
                Account(name="with the outer")
            raise ZeroDivisionError
        assert names(Account) == ["after", "inner", "outer"]
    assert names(Account) == []


def test_hooks_run_as_in_production(db, Account):
    """128. On_commit hooks run after the commit, with a database to use; on_rollback hooks after a rollback."""
    ran = []

    def after_commit():
        ran.append(("committed", names(Account)))

    with rolled_back(db):
        with db_session:
            on_commit(after_commit)
            on_rollback(lambda: ran.append("never"))
            Account(name="a")
        with pytest.raises(ZeroDivisionError), db_session:
            on_commit(lambda: ran.append("never"))
            on_rollback(lambda: ran.append("rolled back"))
            Account(name="b")
            flush()
            raise ZeroDivisionError
    assert ran == [("committed", ["a"]), "rolled back"]


def test_a_refused_write_dooms_its_scope_alone(db, Account):
    """128. A constraint is an error where it is in production; the next scope finds what was committed before."""
    with rolled_back(db):
        with db_session:
            Account(name="a")
        with pytest.raises(TransactionIntegrityError), db_session:
            Account(name="b")
            flush()
            Account(name="a")
        with db_session:
            Account(name="c")
            with pytest.raises(TransactionIntegrityError):
                Account(name="a")
                flush()
            with pytest.raises(SessionDoomed):
                flush()
            rollback()
            Account(name="d")
        assert names(Account) == ["a", "d"]
    assert names(Account) == []


def test_a_refused_write_in_autocommit_leaves_the_rest(db, Account):
    """128. A single write without a transaction that is refused takes nothing else with it."""
    with rolled_back(db):
        with db_session:
            Account(name="a")
        with pytest.raises(TransactionIntegrityError), db_session:
            Account(name="a")
        assert names(Account) == ["a"]


def test_a_refused_read_leaves_the_rest(db, Account):
    """128. A read that fails, without a transaction or in one, takes nothing that was committed with it."""
    with rolled_back(db):
        with db_session:
            Account(name="a")
        with pytest.raises(Exception, match="nothing_of_that_name"), db_session:
            db.select("SELECT * FROM nothing_of_that_name")
        with pytest.raises(Exception, match="nothing_of_that_name"), db_session:
            Account(name="b")
            flush()
            db.select("SELECT * FROM nothing_of_that_name")
        assert names(Account) == ["a"]


def test_a_swallowed_error_is_no_commit(db, Account):
    """128. A statement of the user's that failed is an error at the commit on PostgreSQL, though it was swallowed."""
    with rolled_back(db):
        with db_session:
            Account(name="a")
        if on_postgres(db):
            with pytest.raises(SessionDoomed), db_session:
                Account(name="b")
                flush()
                with pytest.raises(DataError):
                    db.execute("SELECT 1 / 0")
            assert names(Account) == ["a"]
        else:
            with db_session:
                Account(name="b")
                flush()
                with pytest.raises(Exception, match="nothing_of_that_name"):
                    db.execute("DELETE FROM nothing_of_that_name")
            assert names(Account) == ["a", "b"]


def test_a_commit_of_a_failed_transaction_answers_rollback(db, Account):
    """128. The command tag of COMMIT is that of a real one: ROLLBACK, where the transaction had failed."""
    if not on_postgres(db):
        pytest.skip("SQLite has no failed transactions")
    from dbsession.backends.statements import Kind, Statement
    from dbsession.session.transaction import COMMIT

    begin = Statement("BEGIN", kind=Kind.BEGIN)
    answers = []
    for block in (rolled_back(), rolled_back(db)):
        with block:
            connection = db.backend.acquire()
            connection.execute((begin,))
            with pytest.raises(DataError):
                connection.execute((Statement("SELECT 1 / 0"),))
            answers.append((connection.execute((COMMIT,))[0].command, connection.in_transaction))
            answers.append(connection.execute((begin, COMMIT))[1].command)
            db.backend.release(connection)
    assert answers == [("ROLLBACK", False), "COMMIT"] * 2


def test_optimistic_checks_and_retries(db, Account):
    """128. What another scope has changed since it was read is a conflict, and a retry goes through."""
    with rolled_back(db):
        with db_session:
            account = Account(name="a")
        runs = []

        @db_session(retry=1)
        def pay_in():
            mine = Account[account.id]
            balance = mine.balance
            if not runs:
                with db_session(nested="independent"):
                    Account[account.id].balance = 5
            runs.append(balance)
            mine.balance = balance + 10

        pay_in()
        assert runs == [0, 5]
        with pytest.raises(OptimisticCheckError), db_session:
            mine = Account[account.id]
            assert mine.balance == 15
            with db_session(nested="independent"):
                Account[account.id].balance = 1
            mine.balance = 0
        with db_session:
            assert Account[account.id].balance == 1
    assert names(Account) == []


def test_round_trips_and_statements_count_as_without(db, Account):
    """128. The counters count what the program would send without the block, so that costs can be tested in it."""

    def work():
        with sent(db) as spent:
            with db_session:
                made = [Account(name=name) for name in "abc"]
            with db_session:
                Account[made[0].id].balance = 1
            with db_session:
                for account in Account.select().order_by(Account.name):
                    account.balance += 1
            with pytest.raises(TransactionIntegrityError), db_session(statement_timeout=10):
                Account(name="d")
                flush()
                Account(name="a")
            with db_session:
                Account[made[0].id].delete()
                flush()
                rollback()
        return spent.statements, spent.round_trips, spent.transactions

    with rolled_back(db):
        within = work()
    assert names(Account) == []
    assert within == work()


def test_nothing_is_sent_where_nothing_is_done(db, Account):
    """128. A block that does not use the database takes no connection, and locks nothing."""
    with sent(db) as spent, rolled_back(db):
        with db_session:
            pass
    assert (spent.round_trips, spent.connections) == (0, 0)


def test_read_only_scopes_refuse_writes(db, Account):
    """128. Read_only holds within the block, for SQL of the user's too, and for its own scope alone."""
    with rolled_back(db):
        with pytest.raises(Exception, match=r"read.?only"), db_session(read_only=True):
            db.execute("DELETE FROM account")
        with db_session:
            Account(name="a")
        with db_session(read_only=True):
            assert Account.select().count() == 1
        with db_session:
            db.execute("UPDATE account SET balance = 3")
        with db_session:
            assert Account.get(name="a").balance == 3


@pytest.mark.parametrize("option", ["serializable", "immediate", "deferrable", "isolation"])
def test_options_of_transactions_are_taken(db, Account, option):
    """128. Scopes that ask for an isolation level work; they have that of the whole test."""
    options = {
        "serializable": {"serializable": True},
        "immediate": {"immediate": True},
        "deferrable": {"serializable": True, "read_only": True, "deferrable": True},
        "isolation": {"isolation": "repeatable read"},
    }[option]
    with rolled_back(db):
        with db_session:
            Account(name="a")
        with db_session(**options):
            assert Account.select().count() == 1
            if not options.get("read_only"):
                Account(name="b")
    assert names(Account) == []


def test_a_schema_change_is_undone(db, Account):
    """128. Tables that are made or dropped within the block are as before behind it."""
    with db_session:
        Account(name="before")
    with rolled_back(db):
        with db_session:
            db.execute("CREATE TABLE made (id int)")
            db.execute("INSERT INTO made VALUES (1)")
        db.drop_all_tables(with_all_data=True)
        with pytest.raises(Exception, match=r"(?i)account"):
            names(Account)
        db.create_tables()
        with db_session:
            Account(name="in the new table")
        assert names(Account) == ["in the new table"]
    assert names(Account) == ["before"]
    with pytest.raises(Exception, match="made"), db_session:
        db.select("SELECT * FROM made")


def test_dropping_tables_that_refer_to_each_other(db):
    """128. Drop_all_tables() works within the block with rows that refer to each other in a circle."""
    from dbsession import Optional, Set

    class Team(db.Entity):
        lead = Optional("Person", reverse="leads")
        members = Set("Person", reverse="team")

    class Person(db.Entity):
        team = Optional(Team, reverse="members")
        leads = Set(Team, reverse="lead")

    db.generate_mapping(create_tables=True)
    with db_session:
        person = Person(team=Team())
        person.team.lead = person
    with rolled_back(db):
        db.drop_all_tables(with_all_data=True)
        with pytest.raises(Exception, match=r"(?i)person"), db_session:
            Person.select().count()
    with db_session:
        assert Person[person.id].team.lead is Person[person.id]
        with pytest.raises(TransactionIntegrityError):  # references are checked as before
            db.execute("UPDATE person SET team = 99")
            flush()
        rollback()


def test_dropping_tables_that_others_refer_to(db, Account):
    """128. Drop_all_tables() on SQLite leaves rows of other tables alone, whatever they refer to."""
    if on_postgres(db):
        pytest.skip("PostgreSQL refuses it")
    with db_session:
        db.execute("CREATE TABLE child (account INTEGER REFERENCES Account (id))")
        Account(id=1, name="a")
        flush()
        db.execute("INSERT INTO child VALUES (1)")
    with rolled_back(db):
        db.drop_all_tables(with_all_data=True)
        with db_session:
            assert db.select("SELECT account FROM child") == [1]
        db.create_tables()
        with pytest.raises(TransactionIntegrityError), db_session:  # references are checked again
            db.execute("INSERT INTO child VALUES (7)")
    assert names(Account) == ["a"]


def test_several_statements_in_one_text(db, Account):
    """128. What the driver takes in one text without a transaction, it takes within the block."""
    if not on_postgres(db):
        pytest.skip("the driver of SQLite takes one at a time")
    with rolled_back(db):
        with db_session:
            assert db.select("SELECT 1; SELECT 2") == [2]
        with db_session:
            Account(name="a")
        with pytest.raises(DataError), db_session:
            db.select("SELECT 1; SELECT 1 / 0")
        with pytest.raises(ProgrammingError), db_session:  # as in production: BEGIN travels with it
            db.execute("SELECT 1; SELECT 2")
        assert names(Account) == ["a"]


def test_a_query_that_calls_a_function_that_writes(db, Account):
    """128. What a function has written that a SELECT in autocommit has called stays, whatever the scope does later."""
    if not on_postgres(db):
        pytest.skip("SQLite has no functions that write")
    with db_session:
        db.execute(
            "CREATE FUNCTION make(text) RETURNS int LANGUAGE sql "
            "AS 'INSERT INTO account (name, balance) VALUES ($1, 0) RETURNING 1'"
        )
    with rolled_back(db):
        with pytest.raises(ZeroDivisionError), db_session:
            assert db.select("SELECT make('of raw SQL')") == [1]
            assert select(raw_sql("make('of a query')") for a in Account).fetch() == [1]
            Account(name="lost")
            flush()
            raise ZeroDivisionError
        assert names(Account) == ["of a query", "of raw SQL"]
    assert names(Account) == []


def test_closing_the_database_is_undone(db, Account):
    """128. Close() within the block loses nothing of the test; the database is open behind it, with its data."""
    with db_session:
        Account(name="before")
    with rolled_back(db):
        with db_session:
            Account(name="within")
        db.close()
        assert names(Account) == ["before", "within"]
        db.close()
    assert names(Account) == ["before"]


def test_streams(db, Account):
    """128. A stream within the block reads to its end, beside changes."""
    with rolled_back(db):
        with db_session:
            for number in range(10):
                Account(name=f"{number:02}")
        with db_session:
            for account in Account.select().order_by(Account.name).stream(batch=3):
                account.balance = int(account.name)
        with db_session:
            first = next(iter(Account.select().order_by(Account.name).stream(batch=2)))
            assert first.name == "00"
        with db_session:
            assert [account.balance for account in Account.select().order_by(Account.name)] == list(range(10))
        with db_session:
            stream = iter(Account.select().order_by(Account.name).stream(batch=2))
            next(stream)
            commit()
            db.execute("ALTER TABLE account ADD COLUMN note text")  # no cursor is open any more
    assert names(Account) == []
