"""What calling a thing gives: a value, a generator, something to be awaited."""

from __future__ import annotations

import functools
import inspect
from enum import Enum
from typing import Any

__all__ = ["Kind", "what_it_gives"]


class Kind(Enum):
    """What calling a thing gives."""

    FUNCTION = "a value"
    GENERATOR = "a generator"
    COROUTINE = "a coroutine"
    ASYNC_GENERATOR = "an async generator"


def what_it_gives(thing: Any) -> Kind:
    """Return what calling *thing* gives, which can be called."""
    called = _behind(thing)
    if any(map(inspect.iscoroutinefunction, (thing, called))) or _is_awaitable_generator(called):
        return Kind.COROUTINE
    if any(map(inspect.isasyncgenfunction, (thing, called))):
        return Kind.ASYNC_GENERATOR
    return Kind.GENERATOR if inspect.isgeneratorfunction(called) else Kind.FUNCTION


def _behind(thing: Any) -> Any:
    """Return what runs when *thing* is called: the function behind partials, bound methods and `__call__`."""
    while True:
        if isinstance(thing, functools.partial):
            thing = thing.func
        elif inspect.ismethod(thing):
            thing = thing.__func__
        elif inspect.isroutine(thing) or isinstance(thing, type):
            return thing
        else:
            thing = type(thing).__call__


def _is_awaitable_generator(function: Any) -> bool:
    """Tell whether *function* is decorated with `types.coroutine`."""
    code = getattr(function, "__code__", None)
    return bool(getattr(code, "co_flags", 0) & inspect.CO_ITERABLE_COROUTINE)
