"""Which sessions are open in this thread without being the current scope: ``Session(db)`` without ``with``.

While there is one, an object that is built outside any scope is transient, and waits for ``session.add(obj)``.
"""

from __future__ import annotations

import threading
from typing import Protocol
from weakref import WeakSet

__all__ = ["Openable", "is_open_here", "register", "unregister"]


class Openable(Protocol):
    """A session, as far as it matters here."""

    def is_here(self) -> bool:
        """Tell whether the caller is the thread and task that opened it, and it has not ended."""
        ...


class _Here(threading.local):
    """The open sessions of this thread. They are held weakly: a session that nobody holds is not open."""

    def __init__(self) -> None:
        self.cores: WeakSet[Openable] = WeakSet()


_here = _Here()


def register(core: Openable) -> None:
    """Note that *core* is open in this thread."""
    _here.cores.add(core)


def unregister(core: Openable) -> None:
    """Note that *core* is open no more; in a thread where it was not, nothing happens."""
    _here.cores.discard(core)


def is_open_here() -> bool:
    """Tell whether a session is open in this thread and task."""
    return any(core.is_here() for core in list(_here.cores))
