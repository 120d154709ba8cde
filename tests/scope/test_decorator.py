"""`db_session` as a decorator: every kind of callable keeps its kind and its face; what cannot be decorated says so."""

import functools
import inspect
import re
import types
import typing
import unittest.mock
import warnings

import pytest

from dbsession import NoScopeError, Required, Session, TransactionError, db_session, with_transaction
from dbsession.scope import stack
from dbsession.scope.callables import Kind, kind_of
from tests.observing import rows, sent


@pytest.fixture
def Note(db):
    class Note(db.Entity):
        text = Required(str, unique=True)

    db.generate_mapping(create_tables=True)
    return Note


def texts(db):
    return sorted(rows(db, 'SELECT text FROM "note"'))


def in_scope(*args, **kwargs):
    """Return what was given, and whether there is a scope."""
    return args, kwargs, stack.current_frame() is not None


class Greeter:
    """Greets."""

    def __init__(self, greeting="Hello"):
        self.greeting = greeting

    def __call__(self, name: str, *, loud: bool = False) -> tuple[str, bool]:
        """Greet somebody."""
        return f"{self.greeting} {name}{'!' * loud}", stack.current_frame() is not None


class Counting:
    def __call__(self, upto: int) -> typing.Iterator[tuple[int, bool]]:
        for number in range(upto):
            yield number, stack.current_frame() is not None


def counting(upto: int, start: int = 0) -> typing.Iterator[tuple[int, bool]]:
    """Count."""
    for number in range(start, upto):
        yield number, stack.current_frame() is not None


async def coroutine():
    pass


async def async_generator():
    yield 1


@types.coroutine
def awaitable_generator():
    yield


class AsyncCall:
    async def __call__(self):
        pass


class AsyncGeneratorCall:
    async def __call__(self):
        yield


# --- functions and methods ----------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", [db_session, db_session(retry=1)], ids=["plain", "retry"])
def test_a_decorated_function_keeps_its_face(scope):
    """16. Name, signature, docs, annotations and module stay; what the program has put on the function, too."""

    def plain(a: int, *, b: str = "x") -> Session:
        """Do it."""

    plain.mark = object()
    decorated = scope(plain)
    for name in ("__name__", "__qualname__", "__doc__", "__module__", "__annotations__", "mark"):
        assert getattr(decorated, name) == getattr(plain, name)
    assert inspect.signature(decorated) == inspect.signature(plain)
    assert typing.get_type_hints(decorated) == {"a": int, "b": str, "return": Session}
    assert decorated.__wrapped__ is plain
    assert inspect.isfunction(decorated)
    assert not inspect.iscoroutinefunction(decorated)
    assert not inspect.isgeneratorfunction(decorated)


def test_arguments_results_and_methods(db, Note):
    """16. Arguments and results pass as they are; methods can be decorated, under and above @staticmethod and @classmethod."""

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

        @db_session
        @classmethod
        def of_class_above(cls, text):
            """Make a note."""
            return cls, Note(text=text)

        @db_session(retry=1)
        @staticmethod
        def static_above(text):
            return Note(text=text)

        @property
        @db_session
        def first(self):
            return Note.select().order_by(Note.id).first().text

    class Special(Service):
        pass

    service = Service()
    assert service.method(1, b=2) == (service, (1,), {"b": 2}, True)
    cls, note = service.of_class("a")
    assert cls is Service and note.text == "a"
    assert Service.static("b").text == "b"
    cls, note = Special.of_class_above("c")
    assert cls is Special and note.text == "c"
    assert (service.static_above("d").text, Service.static_above("e").text) == ("d", "e")
    assert service.first == "a"
    assert texts(db) == ["a", "b", "c", "d", "e"]
    assert isinstance(inspect.getattr_static(Service, "of_class_above"), classmethod)
    assert isinstance(inspect.getattr_static(Service, "static_above"), staticmethod)
    assert Service.of_class_above.__doc__ == "Make a note."
    assert str(inspect.signature(Service.of_class_above)) == "(text)"


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


def test_bound_methods_lambdas_and_builtins_can_be_decorated():
    """16. A bound method, a lambda, a builtin and what lru_cache makes are functions enough."""

    class Service:
        def method(self, value: int) -> object:
            """Do it."""
            return self, value

    service = Service()
    decorated = db_session(service.method)
    assert decorated(1) == (service, 1)
    assert (decorated.__name__, decorated.__doc__, str(inspect.signature(decorated))) == (
        "method",
        "Do it.",
        "(value: int) -> object",
    )
    assert db_session(lambda value: value)(2) == 2
    assert db_session(len)([1, 2]) == 2
    cached = db_session(functools.lru_cache(in_scope))
    assert cached(1) == ((1,), {}, True)
    assert cached.__name__ == "in_scope"


def test_a_test_double_can_be_decorated():
    """16. So is a mock, which has every attribute that it is asked for, but no name."""
    double = unittest.mock.Mock(return_value=7)
    assert db_session(double)(1, a=2) == 7
    double.assert_called_once_with(1, a=2)


# --- partials and callable objects ----------------------------------------------------------------------------


@pytest.mark.parametrize("scope", [db_session, db_session(retry=1)], ids=["plain", "retry"])
def test_a_partial_is_decorated(scope):
    """16. A partial runs in a scope; its name and docs are those of its function, its signature what is left to give."""

    def plain(a: int, b: str, *, c: float = 1.0) -> tuple[object, ...]:
        """Do it."""
        return a, b, c, stack.current_frame() is not None

    partial = functools.partial(functools.partial(plain, 1), c=2.0)
    decorated = scope(partial)
    assert decorated("x") == (1, "x", 2.0, True)
    assert (decorated.__name__, decorated.__qualname__) == (plain.__name__, plain.__qualname__)
    assert (decorated.__doc__, decorated.__module__) == ("Do it.", __name__)
    assert inspect.signature(decorated) == inspect.signature(partial)
    assert typing.get_type_hints(decorated) == {"b": str, "c": float, "return": tuple[object, ...]}
    assert decorated.__wrapped__ is partial


def test_a_partial_with_a_name_of_its_own_keeps_it():
    """16. What the program has called its partial counts; a doc of its own as well."""
    named = functools.update_wrapper(functools.partial(in_scope, 1), counting)
    assert db_session(named).__name__ == "counting"
    documented = functools.partial(in_scope, 1)
    documented.__doc__ = "Give one."
    assert (db_session(documented).__name__, db_session(documented).__doc__) == ("in_scope", "Give one.")


@pytest.mark.parametrize("scope", [db_session, db_session(retry=1)], ids=["plain", "retry"])
def test_a_callable_object_is_decorated(scope):
    """16. A callable object runs in a scope; it is named after its class, has the docs of its `__call__` and its signature."""
    greeter = Greeter()
    decorated = scope(greeter)
    assert decorated("Ann", loud=True) == ("Hello Ann!", True)
    greeter.greeting = "Bye"
    assert decorated("Ann") == ("Bye Ann", True)
    assert (decorated.__name__, decorated.__qualname__) == ("Greeter", "Greeter")
    assert (decorated.__doc__, decorated.__module__) == ("Greet somebody.", __name__)
    assert inspect.signature(decorated) == inspect.signature(greeter)
    assert typing.get_type_hints(decorated) == {"name": str, "loud": bool, "return": tuple[str, bool]}
    assert inspect.isfunction(decorated) and not hasattr(decorated, "greeting")
    assert scope(functools.partial(greeter, "Bob")).__name__ == "Greeter"
    assert scope(functools.partial(greeter, "Bob"))() == ("Bye Bob", True)


def test_a_partial_of_an_entity_makes_its_object_in_the_scope(db, Note):
    """16. A partial of a class is a call that makes an object, within the scope."""
    assert db_session(functools.partial(Note, text="a"))().text == "a"
    assert texts(db) == ["a"]


# --- the kinds ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "thing, kind",
    [
        (in_scope, Kind.FUNCTION),
        (Greeter(), Kind.FUNCTION),
        (Greeter().__call__, Kind.FUNCTION),
        (functools.partial(Greeter()), Kind.FUNCTION),
        (functools.partial(Greeter), Kind.FUNCTION),
        (len, Kind.FUNCTION),
        (unittest.mock.Mock(), Kind.FUNCTION),
        (counting, Kind.GENERATOR),
        (functools.partial(functools.partial(counting, 3)), Kind.GENERATOR),
        (Counting(), Kind.GENERATOR),
        (Counting().__call__, Kind.GENERATOR),
        (functools.partial(Counting(), 3), Kind.GENERATOR),
        (coroutine, Kind.COROUTINE),
        (functools.partial(coroutine), Kind.COROUTINE),
        (AsyncCall(), Kind.COROUTINE),
        (AsyncCall().__call__, Kind.COROUTINE),
        (functools.partial(AsyncCall()), Kind.COROUTINE),
        (awaitable_generator, Kind.COROUTINE),
        (unittest.mock.AsyncMock(), Kind.COROUTINE),
        (async_generator, Kind.ASYNC_GENERATOR),
        (functools.partial(async_generator), Kind.ASYNC_GENERATOR),
        (AsyncGeneratorCall(), Kind.ASYNC_GENERATOR),
    ],
)
def test_the_kind_is_known(thing, kind):
    """16. What a call gives is known of functions, methods, partials and callable objects, of each behind each."""
    assert kind_of(thing) is kind


@pytest.mark.parametrize("thing", [counting, functools.partial(counting, start=0), Counting(), Counting().__call__])
def test_a_decorated_generator_function_is_one(thing):
    """12, 16. The wrapper of a generator function is one, also behind a partial, a method and a callable object."""
    decorated = db_session(thing)
    assert inspect.isgeneratorfunction(decorated)
    assert inspect.isgenerator(decorated(2))
    assert list(decorated(2)) == [(0, True), (1, True)]
    assert inspect.signature(decorated) == inspect.signature(thing)
    assert decorated.__wrapped__ is thing
    assert stack.current_frame() is None


def test_a_decorated_generator_method():
    """12, 16. Methods that are generators can be decorated, under and above @staticmethod and @classmethod."""

    class Service:
        @db_session
        def method(self, value):
            yield self, value, stack.current_frame() is not None

        @db_session
        @classmethod
        def of_class(cls):
            yield cls

        @staticmethod
        @db_session
        def static():
            yield 1

    service = Service()
    assert list(service.method(1)) == [(service, 1, True)]
    assert list(Service.of_class()) == [Service]
    assert list(Service.static()) == [1]


@pytest.mark.parametrize(
    "thing, message",
    [
        (coroutine, "coroutine() is async, and db_session is synchronous so far"),
        (async_generator, "async_generator() is async, and db_session is synchronous so far"),
        (functools.partial(coroutine), "coroutine() is async"),
        (AsyncCall(), "AsyncCall() is async"),
        (awaitable_generator, "awaitable_generator() is async"),
        (classmethod(coroutine), "coroutine() is async"),
        (property(print), "put @property above @db_session"),
        (functools.cached_property(print), "put @cached_property above @db_session"),
        (classmethod(property(print)), "put @property above @db_session"),
        (Greeter, "db_session decorates functions, not <class"),
        (functools.partialmethod(print), "db_session decorates functions, not functools.partialmethod"),
        (5, "db_session decorates functions, not 5; options are given by keyword"),
    ],
)
@pytest.mark.parametrize("scope", [db_session, db_session(retry=2)], ids=["plain", "retry"])
def test_what_cannot_be_decorated_is_refused_at_once(thing, message, scope):
    """16. What a session cannot be put around is refused where it is decorated, with the way out."""
    with pytest.raises(TypeError, match=re.escape(message)):
        scope(thing)


def test_a_generator_with_retry_is_refused_at_once():
    """12. A generator cannot run again: its consumer has some of its values; the way out is told."""
    for thing in (counting, functools.partial(counting, 3), staticmethod(counting)):
        with pytest.raises(
            TypeError, match=r"counting\(\) is a generator: it cannot run again, .*@db_session\(retry=2\)"
        ):
            db_session(retry=2)(thing)


@pytest.mark.parametrize("nested", ["savepoint", "forbid"])
def test_a_generator_is_part_of_no_other_scope(nested):
    """12. A generator is independent of its consumer's scope, and says so where another nesting is asked for."""
    with pytest.raises(TypeError, match=rf"counting\(\) is a generator: its scope is independent .* nested='{nested}'"):
        db_session(nested=nested)(counting)
    assert list(db_session(nested="independent")(counting)(1)) == [(0, True)]


def test_an_entity_is_no_function(db):
    """16. A class, an entity above all, is refused: its objects would be made in a scope that is over."""

    class Note(db.Entity):
        text = Required(str)

    with pytest.raises(TypeError, match=r"not <entity Note>: what a class makes .* decorate its methods"):
        db_session(Note)


def test_options_are_given_once():
    """`db_session(...)` with options takes no more of them: some would be lost without a word."""
    with pytest.raises(TypeError, match=r"db_session\(serializable=True\) has its options already"):
        db_session(serializable=True)(retry=3)


# --- the old name -----------------------------------------------------------------------------------------------


def test_with_transaction_is_the_old_name(db, Note):
    """`@with_transaction` does what `@db_session` does, and says that it is the old name, where it is written."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")

        @with_transaction
        def bare(text):
            """Make a note."""
            return Note(text=text)

        calls = []

        @with_transaction(retry=1)
        def configured(text):
            calls.append(Note(text=text))
            if len(calls) == 1:
                raise TransactionError

    assert [(each.category, each.filename) for each in caught] == [(DeprecationWarning, __file__)] * 2
    assert "use @db_session" in str(caught[0].message)
    assert bare("a").text == "a"
    assert (bare.__name__, bare.__doc__) == ("bare", "Make a note.")
    configured("b")
    assert len(calls) == 2
    assert texts(db) == ["a", "b"]
    with pytest.raises(NoScopeError):
        Note(text="c")
