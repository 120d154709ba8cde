"""12. `db_session` on a generator: its scope is its own, and put aside whenever the consumer runs."""

import contextvars
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from dbsession import (
    DatabaseSessionIsOver,
    LockNotAvailable,
    NoScopeError,
    RetryPolicy,
    ScopeOwnershipError,
    TransactionError,
    db_session,
    flush,
)
from dbsession.model.entity import EntityBase
from dbsession.scope import stack
from dbsession.session.core import SessionCore
from tests.notes import declare_notes_on_a_shelf, texts
from tests.observing import left_behind, rows, sent


class Odd(Exception):
    pass


@pytest.fixture
def Note(db):
    return declare_notes_on_a_shelf(db)


def session():
    """The session of the current scope, None without one."""
    frame = stack.current_frame()
    return None if frame is None else frame.session


# --- whose scope it is ------------------------------------------------------------------------------------------


def test_the_scope_is_the_generators_alone(db, Note):
    """12. Between two values there is no scope: the consumer that uses the database there is told so."""
    seen = []

    @db_session
    def each():
        for note in Note.select().order_by(Note.id):
            seen.append(session())
            yield note.text

    generator = each()
    assert session() is None  # nothing is entered before the first step
    for _ in range(3):
        next(generator)
        assert session() is None
        with pytest.raises(NoScopeError, match="outside any db_session"):
            Note.get(text="a")
    with pytest.raises(StopIteration):
        next(generator)
    assert session() is None
    assert seen[0] is not None and seen == [seen[0]] * 3


def test_a_generator_within_a_scope_is_independent_of_it(db, Note):
    """12. Consumed within another scope it has a session and a connection of its own, and the consumer keeps his."""

    @db_session
    def each():
        note = Note[1]
        while True:
            yield session(), note

    with db_session as outer:
        mine = Note[1]
        generator = each()
        inner, note = next(generator)
        assert inner is not outer and note is not mine
        assert session() is outer._core and Note[1] is mine
        with db_session:
            assert next(generator) == (inner, note)
            assert session() is outer._core
        mine.likes = 7
    assert session() is None
    assert next(generator) == (inner, note)  # that scope is over, this one is not
    generator.close()
    assert rows(db, "SELECT likes FROM note WHERE id = 1") == [7]


def test_what_the_consumer_undoes_stays_done_in_the_generator(db, Note):
    """12. The end of one is not that of the other: the generator commits its work, the consumer's is rolled back."""

    @db_session
    def make():
        Note(text="made")
        yield 1

    with pytest.raises(Odd), db_session:
        assert list(make()) == [1]
        Note(text="lost")
        raise Odd
    assert texts(db) == ["a", "b", "c", "made"]


@pytest.mark.parametrize("db_url", ["sqlite", "sqlite-file"], indirect=True)
def test_a_generator_does_not_wait_for_its_own_consumer(db, Note):
    """12. SQLite lets one transaction write: where the consumer is in it, the generator is told at once, and names both."""

    @db_session
    def make():
        Note(text="x")
        flush()
        yield 1

    with db_session as outer:
        Note[1].likes = 5
        generator = make()
        flush()
        with sent(db) as spent, pytest.raises(LockNotAvailable) as caught:
            next(generator)
        assert spent.statements == 0
        assert str(caught.value).count("<Session ") == 2 and repr(outer) in str(caught.value)
    assert rows(db, "SELECT likes FROM note WHERE id = 1") == [5]
    assert list(make()) == [1]


@pytest.mark.parametrize("db_url", ["sqlite", "sqlite-file"], indirect=True)
def test_a_generator_does_not_wait_for_a_consumer_that_came_later(db, Note):
    """12. A generator that has used SQLite before its consumer's transaction began is told at once all the same."""

    @db_session
    def make():
        assert Note.get(text="none") is None
        yield 1
        Note(text="late")
        flush()
        yield 2

    generator = make()
    next(generator)
    with db_session as outer:
        Note[1].likes = 5
        flush()
        with sent(db) as spent, pytest.raises(LockNotAvailable, match="the outer") as caught:
            next(generator)
        assert spent.statements == 0 and repr(outer) in str(caught.value)
    assert rows(db, "SELECT likes FROM note WHERE id = 1") == [5]
    assert texts(db) == ["a", "b", "c"]


@pytest.mark.parametrize("opened", ["before", "after"])
@pytest.mark.parametrize("db_url", ["sqlite", "sqlite-file"], indirect=True)
def test_a_consumer_does_not_wait_for_its_own_generator(db, Note, opened):
    """12. A consumer that writes while a suspended generator has SQLite's write lock is told so at once, and can go on."""

    @db_session
    def make():
        Note(text="x")
        flush()
        yield 1

    def write(likes):
        Note[1].likes = likes
        flush()

    generator = make()
    if opened == "after":
        next(generator)
    with db_session:
        if opened == "before":
            next(generator)
        with pytest.raises(LockNotAvailable, match="a suspended generator's"):
            write(1)
        assert list(generator) == []
        write(2)
    assert rows(db, "SELECT likes FROM note WHERE id = 1") == [2]
    assert texts(db) == ["a", "b", "c", "x"]


@pytest.mark.parametrize("db_url", ["sqlite-file"], indirect=True)
def test_another_thread_waits_for_a_suspended_generator(db, Note):
    """12. What another thread does is not refused because of a generator that is suspended here: it waits for the lock."""

    @db_session
    def make():
        Note(text="x")
        flush()
        yield 1

    @db_session
    def write():
        waits.set()
        Note(text="y")
        flush()

    waits = threading.Event()
    generator = make()
    next(generator)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(write)
        assert waits.wait(60)
        assert list(generator) == []
        other.result(60)
    assert texts(db) == ["a", "b", "c", "x", "y"]


def test_generators_within_a_generator(db, Note):
    """12. Generators within a generator, step by step in turn: each finds its own session, and its own objects, again."""

    @db_session
    def one():
        for _ in range(3):
            yield session(), Note[1]

    @db_session
    def both():
        for left, right in zip(one(), one(), strict=True):
            yield left, right, (session(), Note[1])

    steps = []
    for step in both():
        assert session() is None
        sessions, notes = zip(*step, strict=True)
        assert len(set(map(id, sessions))) == len(set(map(id, notes))) == 3
        steps.append(step)
    assert len(steps) == 3 and steps.count(steps[0]) == 3


def test_a_scope_that_the_generator_opened_is_put_aside_too(db, Note):
    """12. A `with db_session` around a yield is the generator's, too: put aside with it, and taken up again."""
    sessions = []

    @db_session
    def each():
        with db_session as joined:
            sessions.append((session(), joined._core))
            yield 1
            sessions.append((session(), joined._core))
            Note(text="x")
        yield 2
        assert session() is joined._core
        Note(text="y")

    generator = each()
    with db_session as outer:
        next(generator)
        assert session() is outer._core
    next(generator)
    assert session() is None
    assert list(generator) == []
    assert len({each for pair in sessions for each in pair}) == 1
    assert texts(db) == ["a", "b", "c", "x", "y"]


def test_an_unfinished_scope_of_the_generator_is_found(Note):
    """12. A scope that the generator entered by hand and never left is an error at its end, and does not stay."""

    @db_session
    def careless():
        db_session(optimistic=True).__enter__()
        yield 1

    generator = careless()
    next(generator)
    with pytest.raises(NoScopeError, match="not the innermost one"):
        next(generator)
    assert session() is None


def test_options_are_those_of_the_scope(db, Note):
    """12. A generator takes the options of a scope: a serializable one begins with its first read."""

    @db_session(serializable=True)
    def read():
        yield Note[1].text

    with sent(db) as spent:
        assert list(read()) == ["a"]
    assert spent.transactions == 1


# --- what it yields ---------------------------------------------------------------------------------------------


def test_what_is_yielded_can_be_read(db, Note):
    """12, 120. Objects are read by the consumer, between the steps and after the end; what was not loaded is not, then."""

    @db_session
    def each():
        yield from Note.select().order_by(Note.id)

    notes = []
    for note in each():
        notes.append(note)
        assert note.text in "abc"
    assert [note.text for note in notes] == ["a", "b", "c"]
    with pytest.raises(DatabaseSessionIsOver):
        notes[0].shelf.name
    with pytest.raises(DatabaseSessionIsOver):
        notes[0].likes = 5


def test_what_is_yielded_belongs_to_the_session_of_the_generator(db, Note):
    """12. Between the steps a yielded object loads what it lacks, and is changed, in the generator's session."""

    @db_session
    def each():
        yield from Note.select().order_by(Note.id)

    for note in each():
        assert note.shelf.name == "shelf"
        note.likes += 1
    assert rows(db, "SELECT likes FROM note") == [1, 1, 1]


# --- threads and contexts -----------------------------------------------------------------------------------------


def in_thread(name, function):
    """Run *function* in a new thread with *name*."""
    found = []
    thread = threading.Thread(target=lambda: found.append(function()), name=name)
    thread.start()
    thread.join(60)
    return found[0]


def test_each_step_may_be_taken_in_another_thread(db, Note):
    """12, 118. The session belongs to the thread that takes the step; at the end everything is committed."""
    seen = []

    @db_session
    def each():
        with db_session:
            for text in "xyz":
                seen.append((threading.current_thread().name, session()))
                yield Note(text=text)

    generator = each()
    for number, text in enumerate("xyz"):
        note = in_thread(f"thread {number}", lambda: next(generator))
        assert note.text == text
        with pytest.raises(ScopeOwnershipError, match=f"belongs to thread 'thread {number}'"):
            note.likes = 1
    assert in_thread("thread 3", lambda: next(generator, "end")) == "end"
    assert [name for name, _ in seen] == ["thread 0", "thread 1", "thread 2"]
    assert len({each for _, each in seen}) == 1
    assert texts(db) == ["a", "b", "c", "x", "y", "z"]


def test_each_step_may_be_taken_in_another_context(db, Note):
    """12. Steps in copies of the context, some made within a scope: no context keeps the generator's scope."""

    @db_session
    def each():
        for text in "xyz":
            Note(text=text)
            yield session()

    generator = each()
    contexts = [contextvars.copy_context()]
    with db_session as outer:
        contexts.append(contextvars.copy_context())
        inside = [context.run(next, generator) for context in contexts]
        assert [context.run(session) for context in contexts] == [None, outer._core]
        assert session() is outer._core
    assert inside[0] == inside[1] == next(generator)
    assert list(generator) == []
    assert texts(db) == ["a", "b", "c", "x", "y", "z"]


def test_many_generators_and_loops_leave_nothing_behind(db, Note):
    """113, 30. After hundreds of them in two threads, ended, given up and failed: no session, no object, no connection more."""

    @db_session
    def each(fails=False):
        for note in Note.select():
            yield note.text
            if fails:
                raise Odd

    def exhausted():
        assert list(each()) == ["a", "b", "c"]

    def given_up():
        next(each())

    def failing():
        with pytest.raises(Odd):
            list(each(fails=True))

    def looping():
        for attempt in db_session.attempts(retry=RetryPolicy(2, base=1e-9)):
            with attempt:
                list(Note.select())
                if attempt.number < 3:
                    raise TransactionError

    kinds = itertools.cycle([exhausted, given_up, failing, looping])
    with left_behind(EntityBase, SessionCore, stack.Frame) as left, ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda kind: kind(), itertools.islice(kinds, 400)))
    assert left == []
    assert db.counters.connections <= 3
