"""What is to be done after a commit or a rollback, kept with the scope that asked for it.

A hook of an inner scope is the outer one's as soon as the inner one has ended well; what an inner
scope that failed wanted to do after the commit is forgotten with it. A hook runs when the outcome is
proven, outside of the transaction that it waited for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, NamedTuple

from dbsession.session.callable_kinds import Kind, what_it_gives

__all__ = ["Event", "Hook", "make_hook", "run_hooks"]

_logger = logging.getLogger("dbsession")


class Event(Enum):
    """What a hook waits for."""

    COMMIT = "commit"
    ROLLBACK = "rollback"


class Hook(NamedTuple):
    """A function to be called after an event."""

    event: Event
    function: Callable[[], Any]


def make_hook(event: Event, function: Any) -> Hook:
    """Return the hook that calls *function*, which needs no arguments.

    Raises:
        TypeError: *function* cannot be called, or is a coroutine function.
    """
    if not callable(function):
        raise TypeError(f"on_{event.value}() takes a function without arguments, not {function!r:.80}")
    if what_it_gives(function) is Kind.COROUTINE:
        raise TypeError(
            f"on_{event.value}() cannot await {getattr(function, '__qualname__', function)}() in a synchronous "
            f"session; give it a plain function"
        )
    return Hook(event, function)


def run_hooks(hooks: Iterable[Hook]) -> None:
    """Call *hooks* in order; an error in one is logged, and changes nothing of what has happened."""
    for hook in hooks:
        try:
            hook.function()
        except Exception:
            _logger.exception("an on_%s hook failed: %r", hook.event.value, hook.function)
