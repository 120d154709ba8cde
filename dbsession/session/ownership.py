"""Who a session belongs to: the thread and, under asyncio, the task that opened it.

Thread ids are used again after a thread has ended, so a thread is known by an object of its own.
A forked child goes on in a copy of the thread that called fork(); it gets another object, so that it
opens scopes of its own, and the ones that it has inherited are its parent's.
Asking for the current task without a running loop raises, so the loop is asked for first.
"""

from __future__ import annotations

import os
import sys
import threading
from asyncio import Task, _get_running_loop, current_task
from typing import Any

from dbsession.errors import ScopeOwnershipError, SessionForkError

__all__ = ["Owner"]


class _Token:
    """Stands for one thread of one process."""

    __slots__ = ("process", "thread")

    def __init__(self) -> None:
        self.process = _process
        self.thread = threading.current_thread()


class _Here(threading.local):
    """What this thread knows of itself."""

    def __init__(self) -> None:
        self.token = _Token()


_process = object()
_here = _Here()


def _after_fork_in_child() -> None:
    global _process  # noqa: PLW0603 - a child is another process
    _process = object()
    _here.token = _Token()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_after_fork_in_child)


class Owner:
    """A thread and, under asyncio, a task of it."""

    __slots__ = ("_task", "_token")

    def __init__(self) -> None:
        self._token = _here.token
        self._task: Task[Any] | None = None if _get_running_loop() is None else current_task()

    def move_here(self) -> None:
        """Let the caller be the owner."""
        here = Owner()
        self._token, self._task = here._token, here._task

    def is_here(self) -> bool:
        """Tell whether this is called by the owner."""
        return _here.token is self._token and (None if _get_running_loop() is None else current_task()) is self._task

    def check(self) -> None:
        """Raise `ScopeOwnershipError` unless this is called by the owner; `SessionForkError` in a forked child."""
        # is_here(), written out: this is asked for every assignment
        if _here.token is self._token and (None if _get_running_loop() is None else current_task()) is self._task:
            return
        self.check_process()
        here = Owner()
        hint = ""
        if self._task is not None and here._task is not None and sys.version_info < (3, 12):
            hint = "; asyncio.wait_for() makes a task of its own on this Python: use asyncio.timeout()"
        raise ScopeOwnershipError(
            f"this db_session belongs to {self}, and was used from {here}; a scope is not inherited: open another one "
            f"there with `with db_session:`, and pass keys, not objects - or hand it on with session.adopt(){hint}"
        )

    def is_of_this_process(self) -> bool:
        """Tell whether the owner is of this process."""
        return self._token.process is _process

    def check_process(self) -> None:
        """Raise `SessionForkError` if the owner is of the process that has forked this one."""
        if not self.is_of_this_process():
            raise SessionForkError(
                "this db_session was opened by the parent process; open another one in the child, on a Database of its "
                "own, and pass keys, not objects"
            )

    def __str__(self) -> str:
        if self._task is not None:
            return f"task {self._task.get_name()!r}"
        return f"thread {self._token.thread.name!r}"
