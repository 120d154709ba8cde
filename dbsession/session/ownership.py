"""Who a session belongs to: the thread and, under asyncio, the task that opened it.

Thread ids are used again after a thread has ended, so a thread is known by an object of its own.
Asking for the current task without a running loop raises, so the loop is asked for first.
"""

from __future__ import annotations

import sys
import threading
from asyncio import Task, _get_running_loop, current_task
from typing import Any

from dbsession.errors import ScopeOwnershipError

__all__ = ["Owner"]


class _Here(threading.local):
    """What this thread knows of itself."""

    def __init__(self) -> None:
        self.token = object()


_here = _Here()


class Owner:
    """A thread and, under asyncio, a task of it."""

    __slots__ = ("_task", "_thread", "_token")

    def __init__(self) -> None:
        self.move_here()

    def move_here(self) -> None:
        """Let the caller be the owner."""
        self._token = _here.token
        self._task: Task[Any] | None = None if _get_running_loop() is None else current_task()
        self._thread = threading.current_thread() if self._task is None else None

    def is_here(self) -> bool:
        """Tell whether this is called by the owner."""
        return _here.token is self._token and (None if _get_running_loop() is None else current_task()) is self._task

    def check(self) -> None:
        """Raise `ScopeOwnershipError` unless this is called by the owner."""
        # is_here(), written out: this is asked for every assignment
        if _here.token is self._token and (None if _get_running_loop() is None else current_task()) is self._task:
            return
        here = Owner()
        hint = ""
        if self._task is not None and here._task is not None and sys.version_info < (3, 12):
            hint = "; asyncio.wait_for() makes a task of its own on this Python: use asyncio.timeout()"
        raise ScopeOwnershipError(
            f"this db_session belongs to {self}, and was used from {here}; a scope is not inherited: open another one "
            f"there with `with db_session:`, and pass keys, not objects - or hand it on with session.adopt(){hint}"
        )

    def __str__(self) -> str:
        if self._task is not None:
            return f"task {self._task.get_name()!r}"
        return f"thread {self._thread.name!r}" if self._thread is not None else "another thread"
