"""Changes that an object brought with it, when it was attached, and that were rolled back.

While it was in no session they were the object's own; attaching has made them work of the session, and a rollback
undoes all of that. The object is clean then, and shows what is in the database. It must not look as if there had been
nothing to save: a function that attaches it, and is run again, would save nothing and report success. So the object is
*undone*, and refused by `attach` and `merge`, until it is saved with another change, or loaded again.

What a saved object reaches only by changes of others is lost with it in the same way, for instance a new item.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbsession.errors import InvalidRequestError
from dbsession.model.entity import EntityBase
from dbsession.model.state import Status, set_state
from dbsession.session.changes import unsaved

if TYPE_CHECKING:
    from dbsession.session.unit_of_work import UnitOfWork

__all__ = ["brings_changes", "leads_by_change", "note_brought", "require_not_undone"]


def brings_changes(obj: EntityBase) -> bool:
    """Tell whether the saved *obj*, on its way into a session, has changes that a rollback would undo."""
    return bool(unsaved(obj)) or obj._state_.status is Status.MARKED_FOR_DELETION


def leads_by_change(obj: EntityBase, target: EntityBase) -> bool:
    """Tell whether the saved *obj* leads to *target* only because that is new, or has changed."""
    return not target._state_.has_row or any(target.__dict__.get(name) is obj for name in unsaved(target))


def note_brought(unit: UnitOfWork, obj: EntityBase) -> None:
    """Note that *obj* has come to *unit* with unsaved changes: if they are rolled back, it is undone."""
    unit.journal.brought(obj)
    if unit.savepoint is not None:
        state = obj._state_
        set_state(obj, unit.states.undone)
        unit.savepoint.keep(obj)
        set_state(obj, state)


def require_not_undone(obj: EntityBase, verb: str) -> None:
    """Raise `InvalidRequestError` if changes that *obj* had brought with it were rolled back."""
    state = obj._state_
    if not state.is_undone:
        return
    where = (
        f" ({state.reason})" if state.reason else "" if state.unit is not None and state.unit.is_detached else " here"
    )
    raise InvalidRequestError(
        f"Cannot {verb} {obj!r}: it was attached with unsaved changes (its own, or of what it is linked to), which "
        f"were rolled back{where}, and would be lost without a word. Where work may be run again, attach a copy, with "
        f"session.attach(copy.copy(obj)), or call session.merge(obj): both leave the object as it is. Now get it "
        f"again, as {obj!r}, and change that"
    )
