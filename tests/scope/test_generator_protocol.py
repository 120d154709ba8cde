"""12. A decorated generator answers to next, send, throw and close as the plain one does."""

import contextlib
import gc
import inspect
import weakref

import pytest

from dbsession import Required, commit, db_session, rollback
from dbsession.scope import stack
from tests.observing import rows


class Odd(Exception):
    pass


@pytest.fixture
def Note(db):
    class Note(db.Entity):
        text = Required(str, unique=True)
        likes = Required(int, default=0)

    db.generate_mapping(create_tables=True)
    with db_session:
        for text in "abc":
            Note(text=text)
    return Note


def texts(db):
    return sorted(rows(db, "SELECT text FROM note"))


def session():
    """The session of the current scope, None without one."""
    frame = stack.current_frame()
    return None if frame is None else frame.session


def echo():
    """Say what it is told, and what is thrown at it; end with a value."""
    told = None
    while told != "end":
        try:
            told = yield ("told", told)
        except Odd as error:
            told = yield ("thrown", str(error))
        except GeneratorExit:
            return "closed"
    return "value"


def stubborn():
    """Yield when it is closed."""
    while True:
        try:
            yield 1
        except GeneratorExit:
            yield 2


def failing():
    """Fail when it is closed."""
    try:
        yield 1
    finally:
        raise Odd("on the way out")


def stopping():
    """Raise StopIteration, which a generator must not."""
    yield 1
    next(iter(()))


def run(generator, *steps):
    """Take *steps* with *generator*, and return what comes of each."""
    seen = []
    for verb, *given in steps:
        try:
            if verb == "throw":
                outcome = generator.throw(given[0](*given[1:]))
            else:
                outcome = next(generator) if verb == "next" else getattr(generator, verb)(*given)
        except BaseException as error:
            outcome = type(error), str(error), getattr(error, "value", None)
        seen.append((verb, outcome, inspect.getgeneratorstate(generator)))
    return seen


@pytest.mark.parametrize(
    "function, steps",
    [
        (echo, [["next"], ["send", 1], ["throw", Odd, "a"], ["next"], ["send", "end"], ["next"]]),
        (echo, [["send", 1]]),
        (echo, [["next"], ["throw", ValueError, "b"], ["next"]]),
        (echo, [["next"], ["throw", StopIteration, "b"]]),
        (echo, [["next"], ["throw", KeyboardInterrupt]]),
        (echo, [["next"], ["close"], ["next"], ["close"]]),
        (echo, [["throw", Odd, "early"]]),
        (echo, [["close"]]),
        (stubborn, [["next"], ["close"]]),
        (failing, [["next"], ["close"], ["next"]]),
        (failing, [["next"], ["next"]]),
        (stopping, [["next"], ["next"]]),
    ],
)
def test_a_decorated_generator_behaves_as_it_did(function, steps):
    """12. next, send, throw and close do what they do with the plain generator, and the value of its end is kept."""
    plain, decorated = function(), db_session(function)()
    expected = run(plain, *steps)
    found = run(decorated, *steps)
    if function is stubborn:  # its name is told, and it is over
        assert found[1][1][:2] == (RuntimeError, f"{stubborn.__name__}() ignored GeneratorExit")
    else:
        assert found == expected
    assert session() is None


def test_wrong_arguments_are_refused_by_the_first_step():
    """12. A call with wrong arguments is a TypeError, before any scope is entered."""
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        next(db_session(echo)(nonsense=1))
    assert session() is None


def test_the_verbs_act_on_the_session_of_the_generator(db, Note):
    """12. flush(), commit() and rollback() in the generator are its own, whatever scope the consumer is in."""

    @db_session
    def make():
        Note(text="x")
        commit()
        yield texts(db)
        Note(text="y")
        rollback()
        yield texts(db)
        db_session.flush()

    with db_session:
        mine = Note[1]
        mine.likes = 5
        generator = make()
        assert next(generator) == ["a", "b", "c", "x"]
        assert mine.likes == 5
        assert next(generator) == ["a", "b", "c", "x"]
        assert list(generator) == []
        rollback()
    assert rows(db, "SELECT likes FROM note WHERE id = 1") == [0]


def test_a_context_manager_of_a_generator(db, Note):
    """12. Under @contextmanager the scope is the generator's still; an error of the block is thrown into it."""

    @contextlib.contextmanager
    @db_session
    def managed():
        yield Note(text="x")

    with managed() as note:
        assert session() is None
        assert note.text == "x"
    with pytest.raises(Odd), managed():
        raise Odd
    assert texts(db) == ["a", "b", "c", "x"]


def test_an_error_that_was_thrown_in_is_freed_at_once():
    """30. What is thrown into a generator holds nothing once it is handled, without any garbage collection."""

    @db_session
    def each():
        with contextlib.suppress(Odd):
            yield 1
        yield 2

    freed = []
    gc.disable()
    try:
        for steps in (["handled"], ["handled", "raised"]):
            generator = each()
            next(generator)
            for _ in steps:
                error = Odd()
                freed.append(weakref.ref(error))
                with contextlib.suppress(Odd):
                    generator.throw(error)
                del error
        assert [ref() for ref in freed] == [None] * 3
    finally:
        gc.enable()
