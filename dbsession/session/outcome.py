"""What becomes of objects where nobody knows whether the commit was done."""

from __future__ import annotations

from dbsession.errors import CommitOutcomeUnknown
from dbsession.model.state import State, Status, set_state
from dbsession.session.unit_of_work import UnitOfWork

__all__ = ["give_up"]

_REASON = f"its commit ended in {CommitOutcomeUnknown.__name__}"


def give_up(unit: UnitOfWork) -> None:
    """Let the new objects of the lost commit be objects of *unit* no more, and of no other session.

    They are not made transient, as what may have been saved is not to be saved again.
    """
    lost = State(Status.NEW, None)
    lost.end(_REASON, is_unknown=True)
    for obj in (*unit.new, *unit.journal.made()):
        if (key := obj._key_) is not None:
            unit.identity.remove(obj, key)
        unit.new.pop(obj, None)
        unit.journal.forget_new(obj)
        set_state(obj, lost)
