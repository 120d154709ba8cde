"""What a forked child may not use: pools and connections register here and are abandoned after a fork.

A child that closes an inherited connection ends the parent's session on the server, and one that
sends through it destroys the parent's transaction. So nothing is closed in the child: what was
inherited is marked, its driver objects are kept from the garbage collector, and using it raises
`SessionForkError`. This module keeps no pid and asks for none: a fork costs the child one loop, and
everybody else nothing.
"""

from __future__ import annotations

import os
import weakref
from typing import Any, Protocol

__all__ = ["REFUSAL", "Inheritable", "keep_forever", "watch"]

REFUSAL = "{} was opened by the parent process; make a new Database in the child, or close() this one there first"


class Inheritable(Protocol):
    """Something that a forked child inherits and must not use."""

    def abandon(self) -> None:
        """Refuse every use from now on, closing nothing."""
        ...


_watched: weakref.WeakSet[Any] = weakref.WeakSet()
_graveyard: list[object] = []


def watch(thing: Inheritable) -> None:
    """Abandon *thing* in every child that this process forks while *thing* is alive."""
    _watched.add(thing)


def keep_forever(driver_object: object) -> None:
    """Keep *driver_object* from being collected, since its finaliser would close the parent's link."""
    _graveyard.append(driver_object)


def _after_fork_in_child() -> None:
    for thing in list(_watched):
        thing.abandon()
    _watched.clear()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_after_fork_in_child)
