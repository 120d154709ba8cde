"""`db_session` as a decorator: the function keeps its face, and what cannot be decorated says so."""

import functools
import inspect

import pytest

from dbsession import Required, Session, db_session
from dbsession.scope import stack
from tests.observing import rows, sent


@pytest.fixture
def Note(db):
    class Note(db.Entity):
        text = Required(str, unique=True)

    db.generate_mapping(create_tables=True)
    return Note


def texts(db):
    return sorted(rows(db, 'SELECT text FROM "note"'))


def test_a_decorated_function_keeps_its_face():
    """16. Name, signature, docs, annotations and module stay."""

    def plain(a: int, *, b: str = "x") -> Session:
        """Do it."""

    decorated = db_session(retry=1)(plain)
    for name in ("__name__", "__qualname__", "__doc__", "__module__", "__annotations__"):
        assert getattr(decorated, name) == getattr(plain, name)
    assert inspect.signature(decorated) == inspect.signature(plain)
    assert inspect.unwrap(decorated) is plain
    assert not inspect.iscoroutinefunction(decorated)


def test_arguments_results_and_methods(db, Note):
    """16. Arguments and results pass as they are; methods, static and class methods can be decorated."""

    class Service:
        @db_session
        def method(self, *args, **kwargs):
            return self, args, kwargs, stack.current_frame() is not None

        @classmethod
        @db_session
        def of_class(cls, text):
            return cls, Note(text=text)

        @staticmethod
        @db_session
        def static(text):
            return Note(text=text)

    service = Service()
    assert service.method(1, b=2) == (service, (1,), {"b": 2}, True)
    cls, note = service.of_class("a")
    assert cls is Service and note.text == "a"
    assert Service.static("b").text == "b"
    assert texts(db) == ["a", "b"]


def test_a_decorated_function_may_call_itself(db, Note):
    """16. Decorated functions call themselves and each other; the outermost commits."""

    @db_session
    def build(depth):
        Note(text=f"{depth}")
        return build(depth - 1) if depth else stack.current_session()

    with sent(db) as spent:
        build(5)
    assert texts(db) == ["0", "1", "2", "3", "4", "5"]
    assert spent.transactions == 1


# --- what it is put around --------------------------------------------------------------------------------


async def coroutine():
    pass


async def async_generator():
    yield 1


def generator():
    yield 1


class Callable:
    def __call__(self):
        pass


@pytest.mark.parametrize(
    "thing, message",
    [
        (coroutine, r"coroutine\(\) is async, and db_session is synchronous"),
        (async_generator, r"async_generator\(\) is async, and db_session is synchronous"),
        (generator, r"generator\(\) is a generator: .* use `with db_session:` inside"),
        (staticmethod(print), r"put @staticmethod above @db_session"),
        (classmethod(print), r"put @classmethod above @db_session"),
        (property(print), "db_session decorates functions, not "),
        (Callable, "db_session decorates functions, not "),
        (Callable(), "db_session decorates functions and methods, not Callable objects"),
        (functools.partial(print), "db_session decorates functions and methods, not partial objects"),
    ],
)
@pytest.mark.parametrize("scope", [db_session, db_session(retry=2)], ids=["plain", "retry"])
def test_what_cannot_be_decorated_is_refused_at_once(thing, message, scope):
    """16. What a session cannot be put around is refused where it is decorated, with the way out."""
    with pytest.raises(TypeError, match=message):
        scope(thing)


def test_an_entity_is_no_function(db):
    """16. A class, an entity above all, is refused: its objects would be made in a scope that is over."""

    class Note(db.Entity):
        text = Required(str)

    with pytest.raises(TypeError, match="db_session decorates functions, not <entity Note>"):
        db_session(Note)


def test_bound_methods_and_lambdas_can_be_decorated():
    """16. A bound method and a lambda are functions enough."""

    class Service:
        def method(self, value):
            return self, value

    service = Service()
    assert db_session(service.method)(1) == (service, 1)
    assert db_session(lambda value: value)(2) == 2
