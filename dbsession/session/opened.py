"""Which sessions are open in this thread without being the current scope: ``Session(db)`` without ``with``.

While there is one, an object that is built outside any scope is transient, and waits for ``session.add(obj)``.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

if TYPE_CHECKING:
    from dbsession.session.unit_of_work import DatabaseLink, UnitOfWork

__all__ = ["Holder", "is_open_here", "open_here", "register", "unregister"]


class Holder(Protocol):
    """A session, as far as it may hold a lock."""

    @property
    def outer(self) -> Holder | None:
        """The session that waits for what is done in this one."""
        ...

    def is_here(self) -> bool:
        """Tell whether it belongs to the thread and task that asks."""
        ...

    def unit_if_any(self, database: DatabaseLink) -> UnitOfWork | None:
        """Return its unit of work for *database*, if it has touched it."""
        ...


class _Here(threading.local):
    """The open sessions of this thread. They are held weakly: a session that nobody holds is not open."""

    def __init__(self) -> None:
        self.cores: WeakSet[Holder] = WeakSet()


_here = _Here()


def register(core: Holder) -> None:
    """Note that *core* is open in this thread."""
    _here.cores.add(core)


def unregister(core: Holder) -> None:
    """Note that *core* is open no more; in a thread where it was not, nothing happens."""
    _here.cores.discard(core)


def open_here() -> list[Holder]:
    """Return the sessions that are open in this thread and task."""
    return [core for core in _here.cores if core.is_here()] if _here.cores else []


def is_open_here() -> bool:
    """Tell whether a session is open in this thread and task."""
    return bool(open_here())
