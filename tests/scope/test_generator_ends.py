"""12. How a decorated generator ends: it commits, it fails, or it is closed or given up before its end."""

import gc
import warnings

import pytest

from dbsession import (
    DatabaseSessionIsOver,
    OptimisticCheckError,
    TransactionIntegrityError,
    commit,
    db_session,
    flush,
)
from dbsession.scope import stack
from tests.notes import declare_notes_on_a_shelf, texts
from tests.observing import elsewhere, rows, sent


class Odd(Exception):
    pass


@pytest.fixture
def Note(db):
    return declare_notes_on_a_shelf(db)


def session():
    """The session of the current scope, None without one."""
    frame = stack.current_frame()
    return None if frame is None else frame.session


def test_the_end_commits(db, Note):
    """12. A generator that ends has committed; the next step after its last value is the one that does it."""

    @db_session
    def make():
        for text in "xy":
            yield Note(text=text).text

    generator = make()
    assert [next(generator), next(generator)] == ["x", "y"]
    with sent(db) as spent:
        assert next(generator, "end") == "end"
    assert spent.round_trips == 1
    assert texts(db) == ["a", "b", "c", "x", "y"]


def test_a_generator_that_yields_nothing_commits_too(db, Note):
    """12. So does one that has no values, or that is told not to."""

    @db_session
    def make(values=()):
        Note(text="x")
        yield from values

    assert list(make()) == []
    assert texts(db) == ["a", "b", "c", "x"]


def test_an_error_of_the_commit_is_raised_by_the_last_step(db, Note):
    """12. What the commit refuses is raised from the step that ended the generator; the values were given before."""
    given = []

    @db_session
    def make():
        Note(text="a")
        yield 1

    with pytest.raises(TransactionIntegrityError):
        given.extend(make())
    given = []
    with pytest.raises(TransactionIntegrityError):
        for value in make():
            given.append(value)
    assert given == [1]
    assert session() is None
    assert texts(db) == ["a", "b", "c"]


def test_a_conflict_is_found_at_the_end(db, Note):
    """12, 89. What the generator read and somebody else changed while it waited is a conflict, as in every scope."""

    @db_session
    def add():
        note = Note[1]
        note.likes += 1
        yield note.likes

    generator = add()
    assert next(generator) == 1
    elsewhere(db_session(lambda: setattr(Note[1], "likes", 50)))
    with pytest.raises(OptimisticCheckError):
        next(generator)
    assert rows(db, "SELECT likes FROM note WHERE id = 1") == [50]


@pytest.mark.parametrize("options, saved", [({}, []), ({"allowed_exceptions": Odd}, ["x"])])
def test_an_error_rolls_back_or_is_allowed(db, Note, options, saved):
    """12, 4. An exception of the generator rolls back, or commits if it is allowed; it reaches the consumer either way."""
    original = Odd("why")

    @db_session(**options)
    def make():
        yield Note(text="x")
        raise original

    generator = make()
    note = next(generator)
    with pytest.raises(Odd) as caught:
        next(generator)
    assert caught.value is original
    assert texts(db) == ["a", "b", "c", *saved]
    with pytest.raises(DatabaseSessionIsOver):
        note.text = "y"


def leave_by_break(generator):
    for _ in generator:
        break


def leave_by_close(generator):
    next(generator)
    generator.close()


def leave_by_throw(generator):
    next(generator)
    with pytest.raises(GeneratorExit):
        generator.throw(GeneratorExit)


def leave_in_a_cycle(generator):
    next(generator)
    cycle = [generator]
    cycle.append(cycle)
    del cycle, generator
    gc.collect()


def leave_in_a_thread(generator):
    next(generator)
    holder = [generator]
    del generator
    elsewhere(holder.clear)


LEAVE = pytest.mark.parametrize(
    "leave", [leave_by_break, leave_by_close, leave_by_throw, leave_in_a_cycle, leave_in_a_thread]
)


@LEAVE
def test_a_generator_that_is_given_up_is_rolled_back(db, Note, leave):
    """12, 112. Left by break, close() or garbage collection, wherever: rolled back at once, with a warning that names it."""
    ends = []

    @db_session
    def make():
        try:
            Note(text="x")
            flush()
            yield 1
        finally:
            ends.append(session())

    with pytest.warns(RuntimeWarning, match=r"make\(\) was closed, or given up, .* its unsaved work is rolled back"):
        leave(make())
    assert len(ends) == 1 and ends[0] is not None
    assert session() is None
    assert texts(db) == ["a", "b", "c"]


@LEAVE
def test_a_generator_that_changed_nothing_is_given_up_in_silence(db, Note, leave):
    """12. Without unsaved work nothing is lost by leaving a generator early, and nothing is said."""

    @db_session
    def read():
        for note in Note.select():
            yield note.text

    @db_session
    def saved():
        Note(text="x")
        commit()
        yield 1

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        leave(read())
        leave(saved())
    assert texts(db) == ["a", "b", "c", "x"]


@LEAVE
def test_a_generator_that_is_given_up_gives_its_connection_back(db, Note, leave):
    """12, 110. The connection is there for the next one at once, with no lock and no transaction on it."""

    @db_session
    def make(number):
        yield Note(text=f"{number}").flush()

    texts(db)
    with sent(db) as spent, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(20):
            leave(make(number))
    assert spent.connections == 0
    elsewhere(db_session(lambda: Note(text="nobody holds a lock")))
    assert texts(db) == ["a", "b", "c", "nobody holds a lock"]


def test_a_warning_that_is_an_error_keeps_nothing_open(db, Note):
    """12. With warnings turned into errors close() raises it, and the work is rolled back all the same."""

    @db_session
    def make():
        Note(text="x")
        flush()
        yield 1

    generator = make()
    next(generator)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning, match="make"):
            generator.close()
    assert session() is None
    assert texts(db) == ["a", "b", "c"]


def test_an_early_end_can_be_allowed(db, Note):
    """12, 4. `allowed_exceptions=GeneratorExit` saves what was done when the consumer leaves early."""

    @db_session(allowed_exceptions=GeneratorExit)
    def make():
        for text in "xyz":
            Note(text=text)
            yield text

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for text in make():
            if text == "y":
                break
    assert texts(db) == ["a", "b", "c", "x", "y"]


def test_the_way_out_may_commit(db, Note):
    """12. What a generator commits on its way out is saved; what it swallows the GeneratorExit for is not."""

    @db_session
    def tidy():
        Note(text="x")
        try:
            yield 1
        finally:
            commit()

    @db_session
    def swallowing():
        Note(text="y")
        try:
            yield 1
        except GeneratorExit:
            return

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        leave_by_break(tidy())
    with pytest.warns(RuntimeWarning, match=r"swallowing\(\) was closed"):
        leave_by_break(swallowing())
    assert texts(db) == ["a", "b", "c", "x"]


def test_a_generator_that_was_never_started_does_nothing(db, Note):
    """12. Before the first step there is nothing to end."""

    @db_session
    def make():
        yield Note(text="x")

    with sent(db) as spent:
        make().close()
        with pytest.raises(Odd):
            make().throw(Odd)
    assert spent.statements == 0
    assert session() is None
