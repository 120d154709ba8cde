"""The end of a scope: leaving it by hand, and what its session does once it is over."""

import contextvars

import pytest

from dbsession import DatabaseSessionIsOver, NoScopeError, Required, Session, db_session, flush
from dbsession.backends.postgres import PostgresConnection
from dbsession.backends.sqlite import SqliteConnection
from dbsession.backends.statements import Kind
from dbsession.scope import stack
from tests.observing import rows, sent


class Odd(Exception):
    pass


@pytest.fixture
def Note(db):
    class Note(db.Entity):
        text = Required(str, unique=True)

    db.generate_mapping(create_tables=True)
    return Note


@pytest.fixture
def first(Note):
    """The key of a saved note."""
    with db_session:
        note = Note(text="first")
    return note.id


def texts(db):
    return sorted(rows(db, 'SELECT text FROM "note"'))


# --- leaving by hand ----------------------------------------------------------------------------------------


def test_leaving_by_hand(db, Note):
    """`__exit__()` without arguments is a good end; with the class of an exception alone it is a bad one."""
    scope = db_session()
    assert scope is db_session
    assert isinstance(scope.__enter__(), Session)
    Note(text="kept")
    scope.__exit__()
    scope.__enter__()
    Note(text="lost")
    scope.__exit__(Odd)
    assert texts(db) == ["kept"]
    with pytest.raises(NoScopeError, match="not the innermost one entered here"):
        scope.__exit__()


def test_only_the_innermost_scope_can_be_left(db, Note):
    """Leaving an outer scope before its inner one is an error that undoes both: nothing later can join what stays open."""
    outer, inner = db_session(immediate=True), db_session(immediate=True)
    outer.__enter__()
    inner.__enter__()
    Note(text="lost")
    with pytest.raises(NoScopeError, match="rolled back"):
        outer.__exit__()
    with db_session:
        Note(text="kept")
    with pytest.raises(DatabaseSessionIsOver):
        inner.__exit__()
    with pytest.raises(DatabaseSessionIsOver):
        outer.__exit__()
    assert stack.current_frame() is None
    assert texts(db) == ["kept"]


# --- after the end ----------------------------------------------------------------------------------------


def test_a_session_that_has_ended_does_nothing_in_vain(db, Note, first):
    """The verbs of a session that is over raise, so that nothing is thought to be saved which is not."""
    for change in (lambda: None, lambda: Note(text="new")):
        with db_session as session:
            change()
        for verb in (session.flush, session.commit, session.rollback, session.no_autoflush().__enter__):
            with pytest.raises(DatabaseSessionIsOver, match="the database session is over; do it within the scope"):
                verb()


def test_a_copied_context_does_not_revive_a_session(db, Note, first):
    """A context that was copied in a scope which has ended has no scope: what is done there is not lost in silence."""
    with db_session:
        context = contextvars.copy_context()
        context.run(Note, text="within")
    with sent(db) as spent:
        with pytest.raises(DatabaseSessionIsOver, match="open another one"):
            context.run(Note, text="lost")
        with pytest.raises(DatabaseSessionIsOver):
            context.run(lambda: Note[first])
    assert spent.statements == 0
    context.run(db_session(lambda: Note(text="saved")))
    assert texts(db) == ["first", "saved", "within"]


def test_an_interrupt_while_rolling_back_gives_the_connection_back(db, Note, first, monkeypatch):
    """13. Ctrl-C during ROLLBACK: the connection is discarded, nothing was saved, and the next scope works."""
    link = SqliteConnection if db.backend.dialect.name == "sqlite" else PostgresConnection
    execute = link.execute

    def interrupted(self, batch):
        if batch[0].kind is Kind.ROLLBACK:
            raise KeyboardInterrupt
        return execute(self, batch)

    with pytest.raises(KeyboardInterrupt), db_session:
        Note[first].text = "changed"
        flush()
        monkeypatch.setattr(link, "execute", interrupted)
        raise Odd
    monkeypatch.undo()
    assert stack.current_frame() is None
    with sent(db) as spent, db_session:
        assert Note[first].text == "first"
        Note(text="works")
    assert spent.connections == 1
