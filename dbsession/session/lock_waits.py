"""Locks that the waiting code itself holds: where one transaction writes at a time, waiting for them is in vain.

A session waits for nobody but for sessions of other threads and tasks. Those that cannot end before
the code at hand goes on are the ones around it, and those of suspended generators of the same task.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from dbsession.errors import LockNotAvailable
from dbsession.session.transaction import Phase
from dbsession.session.unit_of_work import DatabaseLink, UnitOfWork

__all__ = ["Holder", "require_free", "set_aside"]


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


set_aside: set[Holder] = set()
"""The sessions of generators that have not ended. If one is garbage with its generator, finalizers run in any order,
and that of sqlite3 closes the connection before the generator can roll back. What is held here is no garbage."""


def require_free(session: Holder, database: DatabaseLink, writes: bool) -> None:
    """Refuse at once to wait for a lock that only the waiting code itself could give back.

    Raises:
        LockNotAvailable: a session that waits for *session*, or is suspended here, holds it.
    """
    outer = session.outer
    while outer is not None:
        _refuse_if_held(session, outer, database, writes=writes, is_outer=True)
        outer = outer.outer
    if set_aside:
        for other in _suspended(session):
            _refuse_if_held(session, other, database, writes=writes, is_outer=False)


def _suspended(session: Holder) -> Iterator[Holder]:
    return (other for other in list(set_aside) if other is not session and other.is_here())


def _refuse_if_held(session: Holder, holder: Holder, database: DatabaseLink, *, writes: bool, is_outer: bool) -> None:
    unit = holder.unit_if_any(database)
    if unit is None or unit.transaction.phase is not Phase.OPEN:
        return
    readers_wait = database.backend.readers_wait
    excludes = (writes, unit.transaction.policy.mode.write)
    if not (all(excludes) or (readers_wait and any(excludes))):
        return
    readers = ", and nobody else read meanwhile" if readers_wait else ""
    which = "the outer" if is_outer else "a suspended generator's"
    way_out = "the outer one first, or join it" if is_outer else "in the generator before it yields"
    raise LockNotAvailable(
        f"{database} lets one transaction write at a time{readers}, and {which} {holder!r} is in one; {session!r} "
        f"would wait for it in vain: commit() {way_out}",
        nothing_sent=True,
    )
