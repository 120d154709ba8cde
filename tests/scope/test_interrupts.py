"""Ctrl-C in the middle of a statement: nobody knows what was done, so nothing is built upon it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import pytest

from dbsession import (
    DatabaseSessionIsOver,
    Required,
    SessionDoomed,
    Set,
    UnresolvableCyclicDependency,
    commit,
    db_session,
    flush,
    on_commit,
    on_rollback,
    rollback,
)
from dbsession.backends.statements import Batch, Kind, Result
from dbsession.session.link import Link
from tests.observing import rows


@contextmanager
def interrupted(*, behind: bool, kind: Kind = Kind.WRITE) -> Iterator[None]:
    """Interrupt the next batch with a statement of *kind*: before it is sent, or behind its reply."""
    execute = Link.execute
    is_done = False

    def execute_once(link: Link, batch: Batch) -> list[Result]:
        nonlocal is_done
        if is_done or not any(statement.kind is kind for statement in batch):
            return execute(link, batch)
        is_done = True
        if behind:
            execute(link, batch)
        link._discard = True  # as for an interrupt within
        raise KeyboardInterrupt

    with mock.patch.object(Link, "execute", execute_once):
        yield


@pytest.fixture
def Note(db):
    class Note(db.Entity):
        text = Required(str)
        tags = Set("Tag")

    class Tag(db.Entity):
        notes = Set(Note)

    db.generate_mapping(create_tables=True)
    return Note


PLACES = pytest.mark.parametrize("behind", [False, True], ids=["before", "behind"])


@PLACES
def test_a_flush_that_is_interrupted_and_caught(db, Note, behind):
    """13. Code that catches the interrupt of a flush and goes on saves nothing: neither less nor twice."""
    with interrupted(behind=behind), pytest.raises(SessionDoomed) as caught, db_session:
        Note(text="interrupted")
        with pytest.raises(KeyboardInterrupt):
            flush()
        Note(text="later")
    assert isinstance(caught.value.__cause__, KeyboardInterrupt)
    assert rows(db, "SELECT text FROM note") == []
    with db_session:
        Note(text="works")
    assert rows(db, "SELECT text FROM note") == ["works"]


@PLACES
def test_an_inner_flush_that_is_interrupted(db, Note, behind):
    """13. An interrupt within an inner scope is no failure of that scope alone: the outer one saves nothing either."""
    with interrupted(behind=behind), pytest.raises(SessionDoomed), db_session:
        Note(text="outer")
        with pytest.raises(KeyboardInterrupt), db_session:
            Note(text="inner")
            flush()
        Note(text="later")
    assert rows(db, "SELECT text FROM note") == []


@PLACES
def test_rollback_cures_an_interrupt(db, Note, behind):
    """13. After rollback() the session goes on, on another connection."""
    with interrupted(behind=behind), db_session:
        Note(text="interrupted")
        with pytest.raises(KeyboardInterrupt):
            flush()
        rollback()
        Note(text="later")
    assert rows(db, "SELECT text FROM note") == ["later"]


@PLACES
def test_a_commit_that_is_interrupted(db, Note, behind):
    """63. Behind an interrupted COMMIT nobody knows: no hook runs, and nothing is done on top of it."""
    happened = []
    with interrupted(behind=behind, kind=Kind.COMMIT), pytest.raises(SessionDoomed, match="nobody knows"), db_session:
        Note(text="first")
        Note(text="second")
        flush()
        on_commit(lambda: happened.append("commit"))
        on_rollback(lambda: happened.append("rollback"))
        with pytest.raises(KeyboardInterrupt):
            commit()
        Note(text="later")
    assert happened == []
    assert rows(db, "SELECT text FROM note ORDER BY id") == (["first", "second"] if behind else [])


@PLACES
def test_the_commit_at_the_end_is_interrupted(db, Note, behind):
    """63. The same at the end of the scope: the interrupt reaches the caller, and no hook says what is not known."""
    happened = []
    with interrupted(behind=behind, kind=Kind.COMMIT), pytest.raises(KeyboardInterrupt), db_session:
        note = Note(text="first")
        Note(text="second")
        on_commit(lambda: happened.append("commit"))
        on_rollback(lambda: happened.append("rollback"))
    assert happened == []
    assert rows(db, "SELECT text FROM note ORDER BY id") == (["first", "second"] if behind else [])
    with pytest.raises(DatabaseSessionIsOver, match="its commit ended in KeyboardInterrupt"):
        note.text = "later"


@pytest.mark.parametrize("nested", [False, True], ids=["outermost", "inner"])
def test_a_predicate_that_raises(db, Note, nested):
    """3. allowed_exceptions is a function, and raises: that is a no; the work is rolled back, the connection goes back."""
    scope = db_session(allowed_exceptions=lambda error: error.code == 7)
    with pytest.raises(ValueError, match="work") as caught:
        if nested:
            with db_session, scope:
                Note(text="never").flush()
                raise ValueError("work")
        with scope:
            Note(text="never").flush()
            raise ValueError("work")
    assert "allowed_exceptions was asked about this error, and raised AttributeError" in caught.value.__notes__[0]
    assert rows(db, "SELECT text FROM note") == []
    with db_session:
        Note(text="works")


def test_a_flush_that_cannot_be_ordered_fails_as_a_whole(db):
    """84. A flush that fails before anything was sent dooms the session too: what it had taken is not half forgotten."""

    class Seat(db.Entity):
        name = Required(str, unique=True)
        tags = Set("Mark")

    class Mark(db.Entity):
        seats = Set(Seat)

    db.generate_mapping(create_tables=True)
    with db_session:
        Seat(name="a"), Seat(name="b"), Mark()
    with pytest.raises(SessionDoomed) as caught, db_session:
        first, second = Seat[1], Seat[2]
        first.tags.add(Mark[1])
        first.name, second.name = "b", "a"  # NOT NULL, so neither can give way
        with pytest.raises(UnresolvableCyclicDependency):
            flush()
        first.name, second.name = "c", "d"
    assert isinstance(caught.value.__cause__, UnresolvableCyclicDependency)
    assert rows(db, "SELECT name FROM seat ORDER BY name") == ["a", "b"]
