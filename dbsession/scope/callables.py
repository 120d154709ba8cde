"""Scopes around callables: what a thing to be decorated is, and which wrapper is right for it.

A wrapper is of the kind of what it wraps, since callers and frameworks look: a generator function
stays one. It has the face of what it wraps, too: name, docs, annotations, signature.

===================  ======================================================================
kind                 the scope
===================  ======================================================================
function             around the call; with `retry`, around each run of it
generator function   around the whole run, on the stack only while the generator itself runs
coroutine function   refused until there is an asynchronous session
async generator      as above
===================  ======================================================================
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Generator
from typing import Any

from dbsession.scope import stack
from dbsession.scope.retry import Scope, rerun, warn_ignored, will_join
from dbsession.scope.stack import Frame
from dbsession.session.callable_kinds import Kind, what_it_gives
from dbsession.session.core import SessionCore
from dbsession.session.lock_waits import set_aside
from dbsession.session.options import Nesting, Options

__all__ = ["decorate", "kind_of"]


def decorate(scope: Scope, options: Options, thing: Any) -> Any:
    """Return *thing* with *scope*, which has *options*, around it.

    Raises:
        TypeError: a scope cannot be put around such a thing, or not with these options.
    """
    if isinstance(thing, (staticmethod, classmethod)):
        return type(thing)(decorate(scope, options, thing.__func__))
    wrapper = _WRAPPERS[kind_of(thing)](scope, options, thing)
    _dress(wrapper, thing)
    return wrapper


# --- what a thing is --------------------------------------------------------------------------------------


def kind_of(thing: Any) -> Kind:
    """Return what calling *thing* gives.

    Raises:
        TypeError: it cannot be called, or it is a class.
    """
    _require_callable(thing)
    return what_it_gives(thing)


def _require_callable(thing: Any) -> None:
    if isinstance(thing, (property, functools.cached_property)):
        kind = type(thing).__name__
        raise TypeError(f"put @{kind} above @db_session, so that db_session decorates the function itself")
    if isinstance(thing, type):
        raise TypeError(
            f"db_session decorates functions, not {thing!r:.80}: what a class makes would belong to a scope that is "
            f"over; decorate its methods, or the function that uses it"
        )
    if not callable(thing):
        raise TypeError(f"db_session decorates functions, not {thing!r:.80}; options are given by keyword")


# --- the face -----------------------------------------------------------------------------------------------


def _dress(wrapper: Any, thing: Any) -> None:
    """Give *wrapper* the face of *thing*."""
    if isinstance(getattr(thing, "__name__", None), str):
        functools.update_wrapper(wrapper, thing)
        return
    for name, value in _face(thing).items():
        setattr(wrapper, name, value)
    wrapper.__wrapped__ = thing


def _face(thing: Any) -> dict[str, Any]:
    """Return the face of a partial or a callable object, which has no name of its own unless it was given one."""
    if isinstance(getattr(thing, "__name__", None), str):
        face = {str(name): getattr(thing, name) for name in functools.WRAPPER_ASSIGNMENTS if hasattr(thing, name)}
    elif isinstance(thing, functools.partial):
        face = _face(thing.func)
        kept = {*inspect.signature(thing).parameters, "return"}
        face["__annotations__"] = {name: of for name, of in face["__annotations__"].items() if name in kept}
    else:
        cls, call = type(thing), type(thing).__call__
        face = {name: getattr(cls, name) for name in ("__module__", "__name__", "__qualname__")}
        face["__doc__"] = getattr(call, "__doc__", None) or cls.__doc__
        face["__annotations__"] = getattr(call, "__annotations__", {})
    given = getattr(thing, "__dict__", {})
    return face | {name: given[name] for name in functools.WRAPPER_ASSIGNMENTS if name in given}


def _name_of(thing: Any) -> str:
    return f"{_face(thing)['__qualname__']}()"


# --- wrappers -----------------------------------------------------------------------------------------------


def _around_function(scope: Scope, options: Options, function: Callable[..., Any]) -> Callable[..., Any]:
    def in_session(*args: Any, **kwargs: Any) -> Any:
        with scope:
            return function(*args, **kwargs)

    def in_sessions(*args: Any, **kwargs: Any) -> Any:
        if will_join(options):
            warn_ignored(options.retry, name, 2)
            return in_session(*args, **kwargs)
        return rerun(scope, options, function, args, kwargs)

    name = _name_of(function)
    return in_sessions if options.retry else in_session


def _around_generator(
    scope: Scope, options: Options, function: Callable[..., Generator[Any, Any, Any]]
) -> Callable[..., Generator[Any, Any, Any]]:
    """Return a generator function whose scope is put aside at each `yield`, where its consumer runs.

    The consumer's scope is put aside in turn while the generator runs. Frames are kept here, and never
    a token of the ContextVar: the next step may be taken in another context, thread or task.
    """
    name = _name_of(function)
    if options.retry:
        raise TypeError(
            f"{name} is a generator: it cannot run again, since its consumer has some of its values already; "
            f"collect them in a function with @db_session(retry={options.retry.retries}), or retry in the consumer"
        )
    if options.nested not in {Nesting.JOIN, Nesting.INDEPENDENT}:
        raise TypeError(
            f"{name} is a generator: its scope is independent of the one that consumes it, and cannot be "
            f"nested={options.nested.value!r}"
        )

    def in_session(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        steps = _Steps(function(*args, **kwargs), name)
        consumer = stack.current_frame()
        stack.set_frame(None)  # a session of its own, whatever scope the consumer is in
        try:
            with scope:
                session = stack.current_session()
                session.outer = _session_of(consumer)
                set_aside.add(session)
                try:
                    while steps.advance():
                        own = stack.current_frame()
                        stack.set_frame(consumer)
                        try:
                            sent = yield steps.value
                        except BaseException as error:
                            steps.throw_next(error)
                        else:
                            steps.send_next(sent)
                        finally:
                            consumer = stack.current_frame()
                            session.outer = _session_of(consumer)
                            _move_here(own)
                            stack.set_frame(own)
                except GeneratorExit as error:
                    if session.has_unsaved() and not options.is_allowed(error):
                        _warn_of_loss(name)
                    raise
                finally:
                    set_aside.discard(session)
        except GeneratorExit:
            if not steps.has_returned:
                raise
        finally:
            stack.set_frame(consumer)
        return steps.value

    return in_session


class _Steps:
    """The steps of a generator, one at a time: `next()`, `send()` or `throw()`, whichever its consumer asked for."""

    __slots__ = ("_closing", "_generator", "_name", "_resume", "has_returned", "value")

    def __init__(self, generator: Generator[Any, Any, Any], name: str) -> None:
        self._generator = generator
        self._name = name
        self._closing = False
        self.send_next(None)
        self.has_returned = False
        self.value: Any = None  # what it has yielded last, or returned

    def send_next(self, value: Any) -> None:
        """Let the next step send *value*."""
        self._resume: Callable[[], Any] | None = functools.partial(self._generator.send, value)

    def throw_next(self, error: BaseException) -> None:
        """Let the next step throw *error*; with GeneratorExit it has to be the last one."""
        self._resume = functools.partial(self._generator.throw, error)
        self._closing = isinstance(error, GeneratorExit)

    def advance(self) -> bool:
        """Take the next step, and return whether there is a value.

        Raises:
            GeneratorExit: the generator was closed, and let it happen.
            RuntimeError: it was closed, and did not let it happen.
        """
        resume, self._resume = self._resume, None
        assert resume is not None
        try:
            self.value = resume()
        except StopIteration as end:
            self.value, self.has_returned = end.value, True
        finally:
            del resume  # an error that was thrown in holds this frame, by its traceback
        if not self._closing:
            return not self.has_returned
        if self.has_returned:
            raise GeneratorExit  # its end is not the one that commits
        raise RuntimeError(f"{self._name} ignored GeneratorExit")


def _warn_of_loss(name: str) -> None:
    warnings.warn(
        f"the generator {name} was closed, or given up, before its end: its unsaved work is rolled back; exhaust it, "
        f"or let it commit() before it yields",
        RuntimeWarning,
        stacklevel=3,
    )


def _session_of(consumer: Frame | None) -> SessionCore | None:
    """Return the session that waits for the generator: on SQLite it may hold the lock that the generator wants."""
    return consumer.session if consumer is not None and consumer.session.is_here() else None


def _move_here(frame: Frame | None) -> None:
    """Make the caller the owner of the sessions of *frame* and the ones around it."""
    while frame is not None:
        frame.session.move_here()
        frame = frame.parent


def _refuse_async(_scope: Scope, _options: Options, function: Any) -> Any:
    raise TypeError(
        f"{_name_of(function)} is async, and db_session is synchronous so far: its session would block the loop; put "
        f"`with db_session:` around synchronous work, in a thread of its own"
    )


_WRAPPERS: dict[Kind, Callable[[Scope, Options, Any], Any]] = {
    Kind.FUNCTION: _around_function,
    Kind.GENERATOR: _around_generator,
    Kind.COROUTINE: _refuse_async,
    Kind.ASYNC_GENERATOR: _refuse_async,
}
