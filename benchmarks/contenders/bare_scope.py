"""The least that a scope can be: one object in a ContextVar. The limit for ``raw``, no session in it."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from types import TracebackType

__all__ = ["BareScope", "run_decorated", "run_with"]

_current: ContextVar[object | None] = ContextVar("current", default=None)


class BareScope:
    """Put a new object into a ContextVar, and put back what was there before."""

    __slots__ = ("_before",)

    def __enter__(self) -> object:
        """Make the new object current."""
        self._before = _current.get()
        new = object()
        _current.set(new)
        return new

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Restore the old one."""
        _current.set(self._before)


def scoped(function: Callable[[], int]) -> Callable[[], int]:
    """Run *function* in a `BareScope`."""

    @wraps(function)
    def wrapper() -> int:
        with BareScope():
            return function()

    return wrapper


@scoped
def nothing() -> int:
    """Count as one call."""
    return 1


def run_with(count: int) -> int:
    """Enter and leave *count* scopes."""
    done = 0
    for _ in range(count):
        with BareScope():
            done += 1
    return done


def run_decorated(count: int) -> int:
    """Call a decorated function *count* times."""
    done = 0
    for _ in range(count):
        done += nothing()
    return done
