"""Locks that the waiting code itself holds: where one transaction writes at a time, waiting for them is in vain.

A session waits for nobody but for sessions of other threads and tasks. Those that cannot end before
the code at hand goes on are the ones around it, those of suspended generators of the same task, and those
that somebody here holds open.
"""

from __future__ import annotations

from dbsession.errors import LockNotAvailable
from dbsession.session.opened import Holder, open_here
from dbsession.session.transaction import Phase
from dbsession.session.unit_of_work import DatabaseLink

__all__ = ["require_free", "set_aside"]


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
        _refuse_if_held(session, outer, database, writes=writes, place=_OUTER)
        outer = outer.outer
    if set_aside:
        for other in [other for other in list(set_aside) if other is not session and other.is_here()]:
            _refuse_if_held(session, other, database, writes=writes, place=_SUSPENDED)
    for other in open_here():
        if other is not session:
            _refuse_if_held(session, other, database, writes=writes, place=_OPEN)


# Which session is in the way, and what can be done about it.
_OUTER = ("the outer", "the outer one first, or join it")
_SUSPENDED = ("a suspended generator's", "in the generator before it yields")
_OPEN = ("another open", "that one first, or close it")


def _refuse_if_held(
    session: Holder, holder: Holder, database: DatabaseLink, *, writes: bool, place: tuple[str, str]
) -> None:
    unit = holder.unit_if_any(database)
    if unit is None or unit.transaction.phase is not Phase.OPEN:
        return
    readers_wait = database.backend.readers_wait
    excludes = (writes, unit.transaction.policy.mode.write)
    if not (all(excludes) or (readers_wait and any(excludes))):
        return
    readers = ", and nobody else read meanwhile" if readers_wait else ""
    which, way_out = place
    raise LockNotAvailable(
        f"{database} lets one transaction write at a time{readers}, and {which} {holder!r} is in one; {session!r} "
        f"would wait for it in vain: commit() {way_out}",
        nothing_sent=True,
    )
