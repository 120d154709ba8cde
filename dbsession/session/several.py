"""Several databases in one session: all are flushed before the first one commits.

There is no two-phase commit. If the first commit fails, nothing was saved; if a later one does, the
error says what was. The units may grow on the way: a hook of one database may use another one.
"""

from __future__ import annotations

from collections.abc import Mapping

from dbsession.errors import (
    CommitException,
    CommitOutcomeUnknown,
    InvalidRequestError,
    OrmError,
    PartialCommitException,
)
from dbsession.session.flush import MAX_ROUNDS
from dbsession.session.transaction import Phase
from dbsession.session.unit_of_work import DatabaseLink, UnitOfWork

__all__ = ["commit_all", "commit_units", "flush_all"]

_Units = Mapping[DatabaseLink, UnitOfWork]


def flush_all(units: _Units) -> list[UnitOfWork]:
    """Flush until the hooks of one database make no changes in another one; return all units."""
    for _ in range(MAX_ROUNDS):
        known = list(units.values())
        for unit in known:
            unit.run(unit.flush())
        if len(known) == len(units) and not any(unit.has_pending() for unit in known):
            return known
    raise InvalidRequestError(
        f"the flush of several databases did not end in {MAX_ROUNDS} rounds: the hooks of the entities of one keep "
        f"making changes in another"
    )


def commit_units(units: _Units) -> None:
    """Commit all *units*, of which there is one at least; see `commit_all`, whose errors are those of several."""
    if len(units) > 1:
        commit_all(units, [])
        return
    unit = next(iter(units.values()))
    unit.run(unit.commit())
    if len(units) > 1:  # a hook has used another database, perhaps before this one has committed
        commit_all(units, [unit] if unit.transaction.phase is Phase.IDLE else [])


def commit_all(units: _Units, committed: list[UnitOfWork]) -> None:
    """Flush all *units*, then commit one after the other; for those *committed* already, what came after it.

    Raises:
        CommitException: nothing was committed.
        PartialCommitException: one was committed, and another one failed.
        CommitOutcomeUnknown: nobody knows whether the first one was committed.
    """
    try:
        flushed = flush_all(units)
    except Exception as error:
        if committed:
            raise _partial(units, committed, error) from error
        raise
    for unit in flushed:
        try:
            unit.run(unit.commit())
        except OrmError as error:
            if committed:
                raise _partial(units, committed, error) from error
            if isinstance(error, CommitOutcomeUnknown):
                raise
            raise CommitException(f"nothing was committed: {error}") from error
        if unit not in committed:
            committed.append(unit)


def _partial(units: _Units, committed: list[UnitOfWork], error: Exception) -> PartialCommitException:
    failed = [unit.database for unit in units.values() if unit not in committed]
    names = (", ".join(str(unit.database) for unit in committed), ", ".join(map(str, failed)))
    return PartialCommitException(
        f"{names[0]} committed, but {names[1]} did not: {error}",
        committed=[unit.database for unit in committed],
        failed=failed,
    )
