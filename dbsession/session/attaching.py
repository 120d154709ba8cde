"""Objects that no session has become objects of one: transient ones new, copies and those of ended scopes as loaded.

An object moves together with everything that it reaches in memory through references and collections. All of that is
looked at first, so that what is refused has moved nothing. Nothing is sent.

What comes was loaded some time ago. So it does not count as *fresh*: a newer row that the session loads replaces what
was read and not changed, and an UPDATE or DELETE compares, beside what was read, the old value of every changed
attribute. A rollback puts it back to the rows that it came with; what becomes of its changes then stands in `undone`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from dbsession.errors import (
    ConstraintError,
    DatabaseSessionIsOver,
    OperationWithDeletedObjectError,
    OrmError,
)
from dbsession.model.collections import Collection
from dbsession.model.departed import Departed
from dbsession.model.entity import EntityBase
from dbsession.model.state import State, Status
from dbsession.session.move import Move, is_transient
from dbsession.session.undone import brings_changes, leads_by_change, require_not_undone

if TYPE_CHECKING:
    from dbsession.session.unit_of_work import UnitOfWork

__all__ = ["add", "add_all", "attach", "move", "require_no_double", "require_room"]

E = TypeVar("E", bound=EntityBase)

_DELETED = frozenset({Status.MARKED_FOR_DELETION, Status.DELETED})


def add(unit: UnitOfWork, objects: Iterable[EntityBase]) -> None:
    """Let transient *objects*, and what they reach, be new objects of *unit*; detached ones come as by `attach`.

    Objects of *unit* stay as they are. All of *objects* move, or, on an error, none.

    Raises:
        CacheIndexError: another object of the session has the key of one.
        ConstraintError: one belongs to another live session, or refers to an object of one.
        OperationWithDeletedObjectError: one was deleted in this session, or in the session that it comes from.
        InvalidRequestError: one had been attached with changes before, and they were rolled back.
        DatabaseSessionIsOver: one has nothing but its key since its strict scope has ended.
    """
    add_all({unit: objects})


def add_all(groups: Mapping[UnitOfWork, Iterable[EntityBase]]) -> None:
    """Do as `add` in several units of work; nothing moves in one of them if anything is refused in another."""
    moves: list[Move] = []
    for unit, objects in groups.items():
        unit.check_owner()
        coming = [obj for obj in objects if not _is_here(unit, obj, "add")]
        if coming:
            moves.append(_checked(unit, coming, "add"))
    for move in moves:
        move.carry_out()


def attach(unit: UnitOfWork, obj: E) -> E:
    """Let *obj*, a copy or of a scope that has ended, be an object of *unit*, with what it reaches; return it.

    Its row is taken as it was loaded. Changes stay unsaved changes, deletes stay deletes, new objects that it reaches
    are added. If it was not changed, and the session has another object for its row, that one is returned.

    Raises:
        CacheIndexError: *obj*, or one that it reaches, was changed, and the session has another object for its row.
        ConstraintError, OperationWithDeletedObjectError, InvalidRequestError, DatabaseSessionIsOver: as for `add`.
    """
    unit.check_owner()
    if _is_here(unit, obj, "attach"):
        return obj
    coming = _checked(unit, (obj,), "attach")
    coming.carry_out()
    there: Any = coming.stand_ins.get(obj, obj)
    attached: E = there
    return attached


def require_room(unit: UnitOfWork, objects: Iterable[EntityBase]) -> None:
    """Raise unless the transient *objects* can be added to *unit* together, by links to them."""
    _checked(unit, objects, "add", only_transient=True)


def require_no_double(unit: UnitOfWork, objects: Iterable[EntityBase]) -> None:
    """Raise `CacheIndexError` if *unit* has another object for the row of one of *objects*."""
    Move(unit, dict.fromkeys(objects), "link").require_keys()


def move(unit: UnitOfWork, objects: Iterable[EntityBase]) -> None:
    """Move *objects*, which are all that some units without a session have, to *unit*, which is another such unit."""
    coming = Move(unit, dict.fromkeys(objects), "link")
    coming.require_keys()
    coming.find_links()
    coming.carry_out()


def _is_here(unit: UnitOfWork, obj: EntityBase, verb: str) -> bool:
    """Tell whether *obj* belongs to *unit*, and there is nothing to do."""
    if not isinstance(obj, EntityBase):
        raise TypeError(f"session.{verb}() takes objects of entities, not {obj!r:.80}")
    state = obj._state_
    if state.unit is not unit:
        return False
    if state.status in _DELETED:
        raise OperationWithDeletedObjectError(
            f"Cannot {verb} {obj!r}: it was deleted in this session; rollback() would bring it back"
        )
    require_not_undone(obj, verb)
    return True


def _checked(unit: UnitOfWork, roots: Iterable[EntityBase], verb: str, *, only_transient: bool = False) -> Move:
    """Return the move of *roots* and all that they reach, or raise what forbids it."""
    coming = Move(unit, {}, verb)
    objects = coming.objects
    departed = Departed()
    todo = list(roots)[::-1]  # in the order in which they are given, which is that of their INSERTs
    by_changes: deque[tuple[EntityBase, EntityBase]] = deque()
    only_so: set[EntityBase] = set()
    while todo or by_changes:
        if todo:
            obj = todo.pop()
        else:
            owner, obj = by_changes.popleft()
            if obj not in objects or obj in only_so:
                only_so.add(obj)
                coming.brought[owner] = None  # it loses *obj*, if this is rolled back
        if obj in objects or obj._state_.unit is unit:
            continue
        _require_movable(unit, obj, verb, only_transient=only_transient)
        objects[obj] = None
        reached = list(_reached(obj))
        if not is_transient(obj):
            if brings_changes(obj):
                coming.brought[obj] = None
            changed = dict.fromkeys([each for each in reached if leads_by_change(obj, each)])
            by_changes += [(obj, each) for each in (*changed, *departed.of(obj))]
            reached = [each for each in reached if each not in changed] if changed else reached
        todo += reversed(reached)
    coming.find_links()
    coming.require_keys()
    coming.require_writable()
    coming.require_ends()
    return coming


def _require_movable(unit: UnitOfWork, obj: EntityBase, verb: str, *, only_transient: bool) -> None:
    """Raise unless *obj* can come to *unit*, as far as it is a question of *obj* alone."""
    state = obj._state_
    theirs = state.unit
    require_not_undone(obj, verb)
    if theirs is None:
        error = _why_lost(obj, state, verb)
        if error is not None:
            raise error
    elif not theirs.is_detached:
        raise ConstraintError(
            f"Cannot {verb} {obj!r}: it belongs to another live session (or database); end that one first, or get the "
            f"object in this one, for instance with {type(obj).__name__}[key]"
        )
    elif only_transient and not state.is_new:
        raise ConstraintError(
            f"Cannot {verb} {obj!r} by a link to it, or to what leads to it: it is in no session; {state.way_in} it "
            f"first"
        )
    catalog: Any = obj._mapping_.catalog
    if catalog is not unit.database:
        raise ConstraintError(f"Cannot {verb} {obj!r}: its entity belongs to another database")


def _why_lost(obj: EntityBase, state: State, verb: str) -> OrmError | None:
    """Return the error for an object whose scope has ended in a way that leaves nothing to go on with."""
    if state.status is Status.EMPTIED:
        return DatabaseSessionIsOver(f"Cannot {verb} {obj!r}: {state.reason}; get it again in this session")
    if state.before in _DELETED:
        return OperationWithDeletedObjectError(f"Cannot {verb} {obj!r}: it was deleted, and {state.reason}")
    return DatabaseSessionIsOver(f"Cannot {verb} {obj!r}: {state.doubt}") if state.doubt else None


def _reached(obj: EntityBase) -> Iterator[EntityBase]:
    """Yield what *obj* leads to in memory."""
    values = obj.__dict__
    unit = obj._state_.unit
    for attribute in obj._mapping_.reference_attributes:
        target = values.get(attribute.name) if unit is None else attribute.known(obj, unit)
        # What is deleted needs nobody who was never saved.
        if target is not None and (target._state_.has_row or obj._state_.status is not Status.MARKED_FOR_DELETION):
            yield target
    for name in obj._mapping_.collections:
        collection: Collection[Any] | None = values.get(name)
        if collection is not None:
            yield from collection.reached()
