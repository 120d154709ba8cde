"""The sessions that were made by hand and are open in this thread: ``Session(db)`` without `with`.

Each is held weakly, and known to its thread only, so that nothing has to be locked.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING
from weakref import WeakSet

if TYPE_CHECKING:
    from dbsession.session.core import SessionCore

__all__ = ["is_open_here", "open_here", "register", "unregister"]


class _Opened(threading.local):
    def __init__(self) -> None:
        self.sessions: WeakSet[SessionCore] = WeakSet()


_opened = _Opened()


def register(session: SessionCore) -> None:
    """Note that *session* is open in this thread."""
    _opened.sessions.add(session)


def unregister(session: SessionCore) -> None:
    """Note that *session* is closed, or has become a scope."""
    _opened.sessions.discard(session)


def open_here() -> list[SessionCore]:
    """Return the sessions that belong to the thread and task that asks."""
    return [session for session in _opened.sessions if session.is_here()]


def is_open_here() -> bool:
    """Tell whether there is one."""
    return bool(_opened.sessions) and bool(open_here())
