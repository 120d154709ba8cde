"""on_commit and on_rollback: when they run, for which scope, and what they may do."""

import logging
from functools import partial
from types import SimpleNamespace

import psycopg
import pytest

from dbsession import (
    CommitOutcomeUnknown,
    Database,
    DatabaseSessionIsOver,
    NoScopeError,
    PartialCommitException,
    Required,
    SessionDoomed,
    TransactionIntegrityError,
    commit,
    db_session,
    flush,
    on_commit,
    on_rollback,
    rollback,
    savepoint,
)
from tests.observing import rows, sent


class Odd(Exception):
    pass


@pytest.fixture
def diary(db):
    class Entry(db.Entity):
        text = Required(str, unique=True)

    db.generate_mapping(create_tables=True)
    with db_session:
        Entry(text="old")
    return SimpleNamespace(db=db, Entry=Entry)


class Calls(list):
    """Notes what was called, in order."""

    def watch(self, name):
        """Note whether the scope commits or rolls back."""
        on_commit(lambda: self.append(f"{name} committed"))
        on_rollback(lambda: self.append(f"{name} rolled back"))


@pytest.fixture
def calls():
    return Calls()


FORMS = {"join": db_session, "savepoint": savepoint()}


@pytest.fixture(params=FORMS)
def scope(request):
    return FORMS[request.param]


def texts(diary):
    return set(rows(diary.db, "SELECT text FROM entry"))


# --- when ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["block", "decorator"])
def test_after_the_commit(diary, calls, form):
    """Hooks run once, in the order in which they were registered, when everybody can see what was committed."""
    seen = []

    def work():
        diary.Entry(text="new")
        on_commit(lambda: seen.append(texts(diary)))
        calls.watch("first")
        calls.watch("second")
        flush()
        assert calls == seen == []

    if form == "decorator":
        db_session(work)()
    else:
        with db_session:
            work()
    assert calls == ["first committed", "second committed"]
    assert seen == [{"old", "new"}]
    with db_session:
        diary.Entry(text="newer")
    assert len(calls) == 2


@pytest.mark.parametrize("form", ["block", "decorator"])
def test_after_the_rollback(diary, calls, form):
    """If the scope fails, those of on_rollback run, in order, and those of on_commit do not; its error is what is raised."""

    def work():
        diary.Entry(text="new")
        flush()
        calls.watch("first")
        calls.watch("second")
        raise Odd

    with pytest.raises(Odd):
        if form == "decorator":
            db_session(work)()
        else:
            with db_session:
                work()
    assert calls == ["first rolled back", "second rolled back"]


def test_hooks_as_decorators(diary):
    """on_commit and on_rollback return what they were given, so that they can stand above a function."""
    calls = []
    with db_session:

        @on_commit
        def committed():
            calls.append(1)

        @on_rollback
        def rolled_back():
            calls.append(2)

    assert calls == [1]
    committed()
    rolled_back()
    assert calls == [1, 1, 2]


def test_a_scope_that_touches_no_database(calls):
    """A scope that ended well has committed, also if there was nothing to commit; one that failed has rolled back."""
    with db_session:
        calls.watch("idle")
    with pytest.raises(Odd), db_session:
        calls.watch("failed")
        raise Odd
    assert calls == ["idle committed", "failed rolled back"]


def test_an_allowed_exception_commits(diary, calls):
    """4. A scope that fails as allowed has committed."""
    with pytest.raises(Odd), db_session(allowed_exceptions=Odd):
        diary.Entry(text="new")
        calls.watch("allowed")
        raise Odd
    assert calls == ["allowed committed"]


def test_a_commit_that_fails(diary, calls):
    """61. Nothing was committed: the error of the commit is raised, and on_rollback runs."""
    with pytest.raises(TransactionIntegrityError), db_session:
        diary.Entry(text="old")
        calls.watch("refused")
    assert calls == ["refused rolled back"]


def test_a_doomed_scope(diary, calls):
    """62, 84. A scope that swallowed the failure of its flush is not committed, and does not run on_commit."""
    with pytest.raises(SessionDoomed), db_session:
        calls.watch("doomed")
        with pytest.raises(TransactionIntegrityError):
            diary.Entry(text="old").flush()
    assert calls == ["doomed rolled back"]


# --- in the middle of a scope --------------------------------------------------------------------------------


def test_commit_in_the_middle(diary, calls):
    """9, 64. commit() runs what was registered before it, once; what comes later waits for the next end."""
    with db_session:
        diary.Entry(text="one")
        calls.watch("first")
        commit()
        assert calls == ["first committed"]
        diary.Entry(text="two")
        calls.watch("second")
        rollback()
        assert calls == ["first committed", "second rolled back"]
        diary.Entry(text="three")
        calls.watch("third")
    assert calls == ["first committed", "second rolled back", "third committed"]
    assert texts(diary) == {"old", "one", "three"}


def test_sql_in_a_hook_after_commit_in_the_middle(diary):
    """64. The scope goes on, so SQL of the hook is in its next transaction, which can be rolled back alone."""
    with db_session:
        diary.Entry(text="one")
        on_commit(lambda: diary.Entry(text="by the hook"))
        commit()
        flush()
        assert diary.Entry.get(text="by the hook") is not None
        rollback()
        assert diary.Entry.get(text="by the hook") is None
    assert texts(diary) == {"old", "one"}


def test_sql_in_a_hook_after_the_scope(diary, calls):
    """64. The scope has ended: SQL needs a scope of its own, which the hook may open; what it saves is saved."""

    def without():
        with pytest.raises(NoScopeError):
            diary.Entry.select().fetch()
        calls.append("refused")

    def within():
        with db_session:
            diary.Entry(text="by the hook")
            calls.watch("hook's scope")

    with db_session:
        diary.Entry(text="one")
        on_commit(without)
        on_commit(within)
        on_commit(lambda: calls.append("last"))
    assert calls == ["refused", "hook's scope committed", "last"]
    assert texts(diary) == {"old", "one", "by the hook"}


def test_objects_in_a_hook_after_the_scope(diary):
    """64, 120. What was loaded can be read in the hook; changing it is an error, which does not harm the scope."""
    seen = []
    with db_session:
        entry = diary.Entry(text="one")

        @on_commit
        def look():
            seen.append((entry.id, entry.text))
            with pytest.raises(DatabaseSessionIsOver):
                entry.text = "changed"
            seen.append("refused")

    assert seen == [(entry.id, "one"), "refused"]


def test_a_hook_that_registers_another(diary, calls):
    """A hook that runs after commit() may register one for the next commit; after the scope there is none to wait for."""
    with db_session:
        on_commit(lambda: calls.watch("next"))
        commit()
        assert calls == []
        diary.Entry(text="one")
    assert calls == ["next committed"]
    errors = []

    def too_late():
        with pytest.raises(NoScopeError) as caught:
            on_commit(lambda: None)
        errors.append(caught.value)

    with db_session:
        on_commit(too_late)
    assert len(errors) == 1


# --- errors -----------------------------------------------------------------------------------------------------


def test_an_error_in_a_hook_is_logged(diary, calls, caplog):
    """The scope has committed, and says so: an error of a hook is logged with its traceback, and the others run."""

    def broken():
        raise Odd("of the hook")

    with caplog.at_level(logging.ERROR, "dbsession"), db_session:
        diary.Entry(text="one")
        on_commit(broken)
        calls.watch("after the broken one")
    assert calls == ["after the broken one committed"]
    assert texts(diary) == {"old", "one"}
    (record,) = caplog.records
    assert record.name == "dbsession" and "on_commit" in record.getMessage() and "broken" in record.getMessage()
    assert record.exc_info is not None and isinstance(record.exc_info[1], Odd)


def test_an_error_in_a_hook_after_a_rollback(diary, caplog):
    """The error that the scope has failed with is the one that is raised."""

    def broken():
        raise ValueError("of the hook")

    with caplog.at_level(logging.ERROR, "dbsession"), pytest.raises(Odd), db_session:
        diary.Entry(text="one")
        on_rollback(broken)
        raise Odd
    assert ["on_rollback" in record.getMessage() for record in caplog.records] == [True]


def test_an_interrupt_in_a_hook(diary, calls):
    """Ctrl-C in a hook is not swallowed; what was committed is, and the next scope works."""

    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), db_session:
        diary.Entry(text="one")
        on_commit(interrupted)
    with db_session:
        calls.watch("next")
    assert calls == ["next committed"]
    assert texts(diary) == {"old", "one"}


@pytest.mark.parametrize("register", [on_commit, on_rollback])
def test_what_cannot_be_a_hook(register):
    """A coroutine function could not be awaited, and what cannot be called not be called: TypeError when it is registered."""

    async def coroutine(*_):
        pass

    class Caller:
        def __repr__(self):
            return "coroutine of its own"

        async def __call__(self):
            pass

    asynchronous = (coroutine, partial(coroutine, 1), partial(partial(coroutine, 1), 2), Caller(), partial(Caller()))
    with db_session:
        for function in asynchronous:
            with pytest.raises(TypeError, match=rf"{register.__name__}\(\) cannot await .*coroutine"):
                register(function)
        for wrong in (None, 1, "commit"):
            with pytest.raises(TypeError, match="takes a function"):
                register(wrong)


@pytest.mark.parametrize("register", [on_commit, on_rollback])
def test_outside_of_any_scope(register):
    """8. There is nothing to wait for: an error that names the fix, and the function is not kept for a later scope."""
    called = []
    with pytest.raises(NoScopeError, match="with db_session:"):
        register(lambda: called.append(1))
    with db_session:
        pass
    with pytest.raises(Odd), db_session:
        raise Odd
    assert called == []


# --- nested scopes --------------------------------------------------------------------------------------------------


def test_hooks_of_an_inner_scope_wait_for_the_outermost(diary, calls, scope):
    """5. An inner scope commits nothing: its hooks run after the outermost commit, in the order of registration."""
    with db_session:
        calls.watch("outer")
        with scope:
            diary.Entry(text="inner")
            calls.watch("inner")
            with scope:
                calls.watch("innermost")
        calls.watch("outer again")
        assert calls == []
    assert calls == ["outer committed", "inner committed", "innermost committed", "outer again committed"]


def test_hooks_of_an_inner_scope_that_fails(diary, calls, scope):
    """75. They are forgotten with its work, those of on_rollback run at its end; the outer scope's are not touched."""
    with db_session:
        calls.watch("outer")
        with pytest.raises(Odd), scope:
            diary.Entry(text="inner")
            calls.watch("inner")
            with scope:
                calls.watch("innermost")
            raise Odd
        assert calls == ["inner rolled back", "innermost rolled back"]
        calls.clear()
    assert calls == ["outer committed"]
    assert texts(diary) == {"old"}


def test_the_outer_scope_fails_after_the_inner_one(diary, calls, scope):
    """76. What an inner scope that ended well has registered is the outer one's: it is rolled back with it."""
    with pytest.raises(Odd), db_session:
        with scope:
            calls.watch("inner")
        calls.watch("outer")
        raise Odd
    assert calls == ["inner rolled back", "outer rolled back"]


def test_commit_in_the_middle_and_inner_scopes(diary, calls, scope):
    """9, 79. commit() in the outer scope runs what inner ones that ended before it have left."""
    with db_session:
        with scope:
            diary.Entry(text="one")
            calls.watch("first")
        commit()
        assert calls == ["first committed"]
        with scope:
            calls.watch("second")
        rollback()
        assert calls == ["first committed", "second rolled back"]


def test_the_end_of_a_savepoint_scope_is_refused(diary, calls):
    """80. The flush at the end of a savepoint scope fails: its on_rollback hooks run, and the outer scope commits."""
    with db_session:
        calls.watch("outer")
        with pytest.raises(TransactionIntegrityError), savepoint():
            diary.Entry(text="old")
            calls.watch("inner")
        assert calls == ["inner rolled back"]
    assert calls == ["inner rolled back", "outer committed"]


def test_hooks_of_an_independent_scope(diary, calls):
    """An independent scope commits by itself, and its hooks run then, whatever becomes of the outer one."""
    with pytest.raises(Odd), db_session:
        calls.watch("outer")
        with db_session(nested="independent"):
            diary.Entry(text="independent")
            calls.watch("independent")
        assert calls == ["independent committed"]
        raise Odd
    assert calls == ["independent committed", "outer rolled back"]


def test_a_hook_that_runs_at_the_end_of_an_inner_scope(diary, calls, scope):
    """An on_rollback hook of an inner scope runs in the outer one, whose work goes on: what it does is part of that."""
    with db_session:
        with pytest.raises(Odd), scope:
            on_rollback(lambda: diary.Entry(text="by the hook"))
            diary.Entry(text="inner")
            raise Odd
        assert diary.Entry.get(text="by the hook") is not None
    assert texts(diary) == {"old", "by the hook"}


# --- attempts ------------------------------------------------------------------------------------------------------------


def test_hooks_of_attempts(diary, calls):
    """97. Each run registers its own: a run that failed rolls back, and only the last one's on_commit is called."""
    runs = []

    @db_session(retry=3, retry_exceptions=Odd)
    def work():
        runs.append(1)
        calls.watch(f"run {len(runs)}")
        if len(runs) < 3:
            raise Odd

    work()
    assert calls == ["run 1 rolled back", "run 2 rolled back", "run 3 committed"]


# --- who knows? --------------------------------------------------------------------------------------------------------


@pytest.fixture
def fragile(postgres_url):
    """A database in which the connection ends during the COMMIT of a row."""
    db = Database(postgres_url)

    class Entry(db.Entity):
        text = Required(str)

    db.generate_mapping(create_tables=True)
    with psycopg.connect(postgres_url, autocommit=True) as other:
        other.execute(
            "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS "
            "$$BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END$$"
        )
        other.execute(
            "CREATE CONSTRAINT TRIGGER die AFTER INSERT ON entry DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION die()"
        )
    yield SimpleNamespace(db=db, Entry=Entry)
    db.close()


@pytest.mark.parametrize("ends", ["leave", "commit", "rollback", "raise"])
def test_an_unknown_commit_runs_no_hooks(fragile, calls, ends):
    """63. Nobody knows whether it was committed, so nobody is told, neither then nor by what is done afterwards."""
    raised = {"leave": CommitOutcomeUnknown, "commit": SessionDoomed, "raise": Odd, "rollback": ZeroDivisionError}
    with pytest.raises(raised[ends]), db_session:
        calls.watch("unknown")
        fragile.Entry(text="one")
        fragile.Entry(text="two")
        if ends != "leave":
            with pytest.raises(CommitOutcomeUnknown):
                commit()
        if ends == "rollback":
            rollback()
            calls.watch("after rollback()")
            1 / 0
        if ends == "raise":
            raise Odd
    assert calls == (["after rollback() rolled back"] if ends == "rollback" else [])


def test_a_partial_commit_runs_no_hooks(fragile, sqlite_file_url, calls):
    """66. One of two databases has committed, the other one not: neither kind of hook would be true."""
    db = Database(sqlite_file_url)

    class Note(db.Entity):
        text = Required(str)

    db.generate_mapping(create_tables=True)
    with pytest.raises(PartialCommitException), db_session:
        Note(text="one")
        calls.watch("partial")
        fragile.Entry(text="two")
    assert calls == []
    assert rows(db, "SELECT text FROM note") == ["one"]
    db.close()


def test_hooks_cost_nothing_in_the_database(diary, calls):
    """Hooks send nothing by themselves, and hold no connection while they run."""
    with sent(diary.db) as spent, db_session:
        calls.watch("idle")
    assert (spent.statements, spent.connections) == (0, 0)
