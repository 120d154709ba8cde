"""The ways to use a scope, and to leave it: what an entity `Note` and its database go through."""

from contextlib import suppress

from dbsession import (
    TransactionIntegrityError,
    commit,
    db_session,
    flush,
    rollback,
    savepoint,
)
from dbsession.errors import OrmError
from tests.observing import elsewhere


class Odd(Exception):
    pass


def unused(db, Note):
    with db_session:
        pass


def read(db, Note):
    with db_session:
        assert Note[1].text == "first"


def missed(db, Note):
    with db_session:
        assert Note.get(id=77) is None


def written(db, Note):
    with db_session:
        Note[1].likes += 1
        Note(text="new")


def one_statement(db, Note):
    with db_session:
        Note(text="new")


def one_refused_statement(db, Note):
    with db_session:
        Note(text="first")


def flushed(db, Note):
    with db_session:
        Note(text="new").flush()


def raised(db, Note):
    with db_session:
        Note(text="new")
        raise Odd


def raised_after_a_flush(db, Note):
    with db_session:
        Note(text="new").flush()
        raise Odd


def interrupted(db, Note):
    with db_session:
        Note(text="new").flush()
        raise KeyboardInterrupt


def allowed(db, Note):
    with db_session(allowed_exceptions=Odd):
        Note(text="new").flush()
        raise Odd


def refused_at_the_end(db, Note):
    with db_session:
        Note[1].likes = 5
        Note(text="first")


def refused_and_swallowed(db, Note):
    with db_session:
        Note(text="new").flush()
        with suppress(TransactionIntegrityError):
            Note(text="first").flush()


def refused_and_rolled_back(db, Note):
    with db_session:
        try:
            Note(text="first").flush()
        except TransactionIntegrityError:
            rollback()
        Note(text="new")


def conflict(db, Note):
    with db_session:
        Note[1].likes += 1
        Note(text="new")
        elsewhere(db_session(lambda: Note[1].set(likes=50)))


def wrong_sql(db, Note):
    with db_session:
        db.select("SELECT no_such")


def wrong_sql_in_a_transaction(db, Note):
    with db_session:
        db.execute("UPDATE note SET likes = 1")
        db.execute("UPDATE no_such SET likes = 1")


def wrong_sql_swallowed(db, Note):
    with db_session:
        Note(text="new").flush()
        with suppress(OrmError):
            db.execute("UPDATE no_such SET likes = 1")


def failed_at_commit(db, Note):
    with db_session:
        Note(text="new")
        db.execute("INSERT INTO child VALUES (99)")


def failed_at_commit_and_swallowed(db, Note):
    with db_session:
        db.execute("INSERT INTO child VALUES (99)")
        with suppress(OrmError):
            commit()


def hook_failed(db, Note):
    with db_session:
        Note(text="new", hook="fail")


def committed(db, Note):
    with db_session:
        Note(text="new")
        commit()
        Note[1].likes += 1
        flush()
        commit()


def rolled_back(db, Note):
    with db_session:
        Note(text="new").flush()
        rollback()


def serializable_read(db, Note):
    with db_session(serializable=True):
        Note.select().fetch()


def serializable_write(db, Note):
    with db_session(serializable=True):
        Note[1].likes += 1


def serializable_raised(db, Note):
    with db_session(serializable=True):
        Note[1].likes += 1
        flush()
        raise Odd


def immediate(db, Note):
    with db_session(immediate=True):
        Note[1]


def not_optimistic(db, Note):
    with db_session(optimistic=False):
        Note[1].likes += 1


def locked(db, Note):
    with db_session:
        Note.get_for_update(id=1)


def locked_and_raised(db, Note):
    with db_session:
        Note.select().for_update().fetch()
        raise Odd


def nested(db, Note):
    with db_session:
        Note(text="outer").flush()
        with db_session:
            Note(text="new").flush()


def nested_and_raised(db, Note):
    with db_session, db_session:
        Note(text="new").flush()
        raise Odd


def nested_and_refused(db, Note):
    with db_session:
        Note(text="new").flush()
        with db_session(serializable=True):
            pass


def inner_failed(db, Note):
    with db_session:
        Note(text="outer")
        with suppress(Odd), db_session:
            Note(text="new").flush()
            raise Odd


def savepoint_kept(db, Note):
    with db_session:
        Note(text="outer")
        with savepoint():
            Note(text="new")


def savepoint_undone(db, Note):
    with db_session:
        Note(text="outer")
        with suppress(TransactionIntegrityError), savepoint():
            Note(text="first")
        with suppress(OrmError), db_session(nested="savepoint"):
            db.execute("UPDATE no_such SET likes = 1")


def savepoint_undone_at_last(db, Note):
    with db_session, suppress(Odd), savepoint():
        Note(text="new").flush()
        raise Odd


def outer_failed_behind_a_savepoint(db, Note):
    with db_session:
        with savepoint():
            Note(text="new")
        raise Odd


def read_only(db, Note):
    with db_session(read_only=True):
        Note[1]


def read_only_refused(db, Note):
    with db_session(read_only=True):
        db.execute("UPDATE note SET likes = 1")


def repeatable_read(db, Note):
    with db_session(isolation="repeatable read"):
        Note[1].likes += 1


def limited(db, Note):
    with db_session(statement_timeout=30, lock_timeout=20):
        Note[1].likes += 1


def limited_and_raised(db, Note):
    with db_session(statement_timeout=30, lock_timeout=20):
        Note[1].likes += 1
        flush()
        raise Odd


def too_late(db, Note):
    with db_session(statement_timeout=0.02):
        Note[1].likes += 1
        flush()
        if db.backend.dialect.name == "postgresql":
            db.execute("SELECT pg_sleep(60)")
        numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
        db.execute(numbers)


def retried(db, Note):
    runs = []

    @db_session(retry=2)
    def work():
        runs.append(1)
        Note[1].likes += 1
        if len(runs) < 3:
            Note(text="first")

    work()


def retried_in_vain(db, Note):
    db_session(retry=2)(lambda: Note(text="first"))()


def bulk_delete(db, Note):
    with db_session:
        Note(text="new")
        Note.select(text="new").delete(bulk=True)


def settings_of_the_transaction(db, Note):
    with db_session:
        db.execute("UPDATE note SET likes = 1")
        if db.backend.dialect.name == "postgresql":
            db.execute("SET LOCAL search_path = pg_catalog")
            db.execute("SET CONSTRAINTS ALL IMMEDIATE")
            db.execute("SET TRANSACTION READ ONLY")
        else:
            db.execute("PRAGMA defer_foreign_keys = ON")


def settings_of_the_session(db, Note):
    with db_session:
        if db.backend.dialect.name == "postgresql":
            db.execute("SET search_path = pg_catalog, public")
            db.execute("SET default_transaction_isolation = 'serializable'")
            db.execute("SELECT pg_advisory_lock(42)")
            db.execute("LISTEN news")
            db.execute("CREATE TEMP TABLE scratch (a int)")
            db.execute("PREPARE plan AS SELECT 1")
            db.execute("DECLARE held CURSOR WITH HOLD FOR SELECT 1")
        else:
            for pragma in ("foreign_keys = OFF", "query_only = ON", "busy_timeout = 1", "recursive_triggers = ON"):
                db.select(f"PRAGMA {pragma}")


WAYS = [
    *(unused, read, missed, written, one_statement, one_refused_statement, flushed, raised, raised_after_a_flush),
    *(interrupted, allowed, refused_at_the_end, refused_and_swallowed, refused_and_rolled_back, conflict),
    *(wrong_sql, wrong_sql_in_a_transaction, wrong_sql_swallowed, failed_at_commit, failed_at_commit_and_swallowed),
    *(hook_failed, committed, rolled_back, serializable_read, serializable_write, serializable_raised, immediate),
    *(not_optimistic, locked, locked_and_raised, nested, nested_and_raised, nested_and_refused, retried),
    *(inner_failed, savepoint_kept, savepoint_undone, savepoint_undone_at_last, outer_failed_behind_a_savepoint),
    *(read_only, read_only_refused, repeatable_read, limited, limited_and_raised, too_late),
    *(retried_in_vain, bulk_delete, settings_of_the_transaction, settings_of_the_session),
]
EXPECTED = (Odd, KeyboardInterrupt, OrmError)


def leave(way, db, Note):
    """Go the *way*, and return the error that came out of it."""
    try:
        way(db, Note)
    except EXPECTED as error:
        return error
    return None
