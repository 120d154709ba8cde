"""Objects that no session has become objects of one: transient ones new, copies and those of ended scopes as loaded.

An object moves together with everything that it reaches in memory through references and collections. All of that is
looked at first, so that what is refused has moved nothing. Nothing is sent.

What comes was loaded some time ago. So it does not count as *fresh*: a newer row that the session loads replaces what
was read and not changed, and an UPDATE or DELETE compares, beside what was read, the old value of every changed
attribute. A rollback puts it back to the rows that it came with.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from dbsession.errors import (
    CacheIndexError,
    ConstraintError,
    DatabaseSessionIsOver,
    OperationWithDeletedObjectError,
    OrmError,
)
from dbsession.model.attributes import PendingExpression
from dbsession.model.collections import Collection, CollectionAttribute
from dbsession.model.departed import Departed
from dbsession.model.entity import EntityBase
from dbsession.model.mapping import Mapping
from dbsession.model.references import ReferenceAttribute
from dbsession.model.state import NOT_LOADED, State, Status, set_state
from dbsession.session.changes import row_seen, unsaved
from dbsession.session.identity_map import ObjectSet
from dbsession.session.key_places import moves_away
from dbsession.session.loading import assigned_key
from dbsession.session.origins import Origin, origin
from dbsession.session.savepoint import LinkChange

if TYPE_CHECKING:
    from dbsession.session.unit_of_work import UnitOfWork

__all__ = ["add", "attach", "move", "require_no_double", "require_room"]

E = TypeVar("E", bound=EntityBase)

_DELETED = frozenset({Status.MARKED_FOR_DELETION, Status.DELETED})


def add(unit: UnitOfWork, objects: Iterable[EntityBase]) -> None:
    """Let transient *objects*, and what they reach, be new objects of *unit*; detached ones come as by `attach`.

    Objects of *unit* stay as they are. All of *objects* move, or, on an error, none.

    Raises:
        CacheIndexError: another object of the session has the key of one.
        ConstraintError: one belongs to another live session, or refers to an object of one.
        OperationWithDeletedObjectError: one was deleted in this session, or in the session that it comes from.
        DatabaseSessionIsOver: one has nothing but its key since its strict scope has ended.
    """
    unit.check_owner()
    coming = [obj for obj in objects if not _is_here(unit, obj, "add")]
    if coming:
        _checked(unit, coming, "add").carry_out()


def attach(unit: UnitOfWork, obj: E) -> E:
    """Let *obj*, a copy or of a scope that has ended, be an object of *unit*, with what it reaches; return it.

    Its row is taken as it was loaded. Changes stay unsaved changes, deletes stay deletes, new objects that it reaches
    are added. If nothing but its key is known, and the session has the object with that key, this is returned.

    Raises:
        CacheIndexError: the session has another object for the row of *obj*, or of one that it reaches.
        ConstraintError, OperationWithDeletedObjectError, DatabaseSessionIsOver: as for `add`.
    """
    unit.check_owner()
    if _is_here(unit, obj, "attach"):
        return obj
    coming = _checked(unit, (obj,), "attach")
    coming.carry_out()
    there: Any = coming.stand_ins.get(obj, obj)
    attached: E = there
    return attached


def require_room(unit: UnitOfWork, obj: EntityBase) -> None:
    """Raise unless the transient *obj* can be added to *unit* by a link to it."""
    _checked(unit, (obj,), "add", only_transient=True)


def require_no_double(unit: UnitOfWork, objects: Iterable[EntityBase]) -> None:
    """Raise `CacheIndexError` if *unit* has another object for the row of one of *objects*."""
    _Move(unit, dict.fromkeys(objects), "link").require_keys()


def move(unit: UnitOfWork, objects: Iterable[EntityBase]) -> None:
    """Move *objects*, which are all that one unit without a session has, to *unit*, which is another such unit."""
    coming = _Move(unit, dict.fromkeys(objects), "link")
    coming.require_keys()
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
    return True


def _checked(unit: UnitOfWork, roots: Iterable[EntityBase], verb: str, *, only_transient: bool = False) -> _Move:
    """Return the move of *roots* and all that they reach, or raise what forbids it."""
    objects: dict[EntityBase, None] = {}
    departed = Departed()
    todo = list(roots)[::-1]
    while todo:  # in the order in which they are given, which is that of their INSERTs
        obj = todo.pop()
        if obj in objects or obj._state_.unit is unit:
            continue
        _require_movable(unit, obj, verb, only_transient=only_transient)
        objects[obj] = None
        todo += reversed([*_reached(obj), *departed.of(obj)])
    coming = _Move(unit, objects, verb)
    coming.require_keys()
    coming.require_writable()
    coming.require_ends()
    return coming


def _require_movable(unit: UnitOfWork, obj: EntityBase, verb: str, *, only_transient: bool) -> None:
    """Raise unless *obj* can come to *unit*, as far as it is a question of *obj* alone."""
    state = obj._state_
    theirs = state.unit
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
    if state.is_unknown and state.before is Status.NEW:
        return DatabaseSessionIsOver(
            f"Cannot {verb} {obj!r}: {state.reason}, so that nobody knows whether it was saved; look for it in the "
            f"database, and make a new object if it is not there"
        )
    if state.before is Status.DIRTY:
        return DatabaseSessionIsOver(
            f"Cannot {verb} {obj!r}: {state.reason}, so that nobody knows whether its changes were saved; get it again "
            f"in this session"
        )
    return None


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


class _Move:
    """Objects on their way to *unit*."""

    def __init__(self, unit: UnitOfWork, objects: dict[EntityBase, None], verb: str) -> None:
        self.unit = unit
        self.objects = objects
        self.verb = verb
        self.stand_ins: dict[EntityBase, EntityBase] = {}  # of which only the key is known, and what takes their place
        self.sources: dict[UnitOfWork, None] = {}

    # --- what is looked at before anything moves --------------------------------------------------

    def require_keys(self) -> None:
        """Raise unless each object can stand under its key; those of which only the key is known give way.

        Raises:
            CacheIndexError: there is another object for the row, or with the key.
        """
        seen: dict[tuple[Mapping, Any], EntityBase] = {}
        for obj in self.objects:
            key = obj._key_
            if key is None:
                continue
            place = (obj._mapping_.root, key)
            other = seen.get(place) or self.unit.identity.find(obj._mapping_, key)
            if other is not None and self._gives_way(obj, other):
                continue
            seen[place] = obj
            if not obj._state_.is_new and any(part.name in unsaved(obj) for part in obj._mapping_.key):
                self._require_free(obj, assigned_key(obj))

    def _gives_way(self, obj: EntityBase, other: EntityBase) -> bool:
        """Tell whether *obj* gives way to *other*, which has its key; raise if neither can."""
        if not _is_transient(obj) and _is_key_only(obj, new_items=True) and other._state_.status not in _DELETED:
            self.stand_ins[obj] = other  # which is told of the new objects that refer to it
            return True
        is_bare = not _is_transient(other) and _is_key_only(other)
        if is_bare and (other in self.objects or (self.unit.is_detached and not _is_transient(obj))):
            self.stand_ins[other] = obj
            return False
        if _is_transient(obj):
            self._require_free(obj, obj._key_, other)
            return False
        raise CacheIndexError(
            f"Cannot {self.verb} {obj!r}: there is another object for its row {self._here} already "
            f"({other._state_.label}), and changes of both could not be saved; session.merge(obj) brings what was "
            f"changed to that one; or attach it before the session loads the row"
        )

    @property
    def _here(self) -> str:
        return "among the objects that it is linked to" if self.unit.is_detached else "in this session"

    def _require_free(self, obj: EntityBase, key: Any, other: EntityBase | None = None) -> None:
        mapping = obj._mapping_
        other = other or self.unit.identity.find(mapping, key)
        if other is None or other is obj or not other._state_.may_change or moves_away(other, key):
            return
        raise CacheIndexError(
            f"Cannot {self.verb} {obj!r}: {mapping.describe_key(key)} exists {self._here} already: {other!r} "
            f"({other._state_.label}); change that object, or delete it first"
        )

    def require_writable(self) -> None:
        """Raise `InvalidRequestError` if there are changes, and the innermost scope is read-only."""
        savepoint = self.unit.savepoint
        if savepoint is not None and any(_is_transient(obj) or unsaved(obj) for obj in self.objects):
            savepoint.require_writable()

    def require_ends(self) -> None:
        """Raise unless what the objects refer to in the unit is there, and free where the relation needs both ends."""
        for obj, attribute, target in self._references_here():
            if not target._state_.may_change:
                raise ConstraintError(
                    f"Cannot {self.verb} {obj!r}: its {attribute.name} is {target!r}, which was deleted in this session"
                )
            attribute.require_free_end(obj, target)

    def _references_here(self) -> Iterator[tuple[EntityBase, ReferenceAttribute, EntityBase]]:
        """Yield the references of transient objects to objects that the unit has already."""
        for obj in self.objects:
            if _is_transient(obj):
                for attribute in obj._mapping_.reference_attributes:
                    target = obj.__dict__.get(attribute.name)
                    if target is None or attribute.is_virtual:
                        continue
                    if target._state_.unit is not self.unit:
                        target = self._stand_in(target)
                    if target._state_.unit is self.unit:
                        yield obj, attribute, target

    # --- the move ---------------------------------------------------------------------------------

    def carry_out(self) -> None:
        """Move everything."""
        unit = self.unit
        lost = [obj for obj in self.objects if obj._state_.unit is None and _is_transient(obj)]
        untold = list(self._references_here())
        links_here = list(self._links_here())
        self._make_room()
        if not unit.is_detached and unit.fresh is None:
            unit.fresh = ObjectSet()
            unit.fresh.update([*unit.identity, *unit.new])
        for obj in self.objects:
            if obj not in self.stand_ins:
                self._leave_and_join(obj)
        for obj, attribute, target in untold:
            attribute.reverse.taken(target, obj, unit)
        for reverse, obj, item in links_here:
            reverse.of(item).note_added(obj, unit)
        self._move_links()
        for obj in lost:
            _link_again(unit, obj)
        for obj in self.objects if not unit.is_detached else ():
            if obj not in self.stand_ins:
                self._note_relations(obj)

    def _links_here(self) -> Iterator[tuple[CollectionAttribute, EntityBase, EntityBase]]:
        """Yield the many-to-many links of transient objects to objects that the unit has already."""
        for obj in self.objects:
            for attribute in obj._mapping_.collections.values() if _is_transient(obj) else ():
                collection: Collection[Any] | None = obj.__dict__.get(attribute.name)
                if attribute.link is not None and collection is not None:
                    for item in collection.known:
                        if item._state_.unit is self.unit:
                            yield attribute.reverse, obj, item

    def _make_room(self) -> None:
        """Put what stands for a row in the place of what has nothing but its key."""
        if not self.stand_ins:
            return
        for obj, other in self.stand_ins.items():
            while other in self.stand_ins:
                other = self.stand_ins[other]  # noqa: PLW2901 - the last of a chain
            self.stand_ins[obj] = other
        stays = self.unit.identity if any(obj not in self.objects for obj in self.stand_ins) else ()
        for obj in (*self.objects, *stays):
            _replace(obj, self.stand_ins)
        gone = State(Status.DETACHED, None, "another object stands for its row where it was attached")
        for obj in self.stand_ins:
            theirs: Any = obj._state_.unit
            if theirs is not None:
                theirs.identity.remove(obj, obj._key_)
            set_state(obj, gone)

    def _leave_and_join(self, obj: EntityBase) -> None:
        """Let *obj* be an object of the unit, in the state in which it is."""
        unit = self.unit
        source: Any = obj._state_.unit
        made: Origin | None = None
        if source is not None:
            self.sources[source] = None
            made = source.new.get(obj)
            source.forget_unsaved(obj)
            source.identity.remove(obj, obj._key_)
            unit.moves_keys = unit.moves_keys or source.moves_keys
        unit.has_hooks = unit.has_hooks or bool(obj._mapping_.hooks)
        if _is_transient(obj):
            _join_as_new(unit, obj, made)
        else:
            _join_as_loaded(unit, obj)

    def _stand_in(self, obj: EntityBase) -> EntityBase:
        return self.stand_ins.get(obj, obj)

    def _move_links(self) -> None:
        unit = self.unit
        for source in self.sources:
            for link, pairs in list(source.links.items()):
                for pair, adds in list(pairs.items()):
                    left, right = (self._stand_in(end) for end in pair)
                    if not (left._state_.unit is right._state_.unit is unit):
                        continue
                    del pairs[pair]
                    if unit.savepoint is not None:
                        unit.savepoint.link_changing(LinkChange(link, (left, right), None, is_known=False))
                    unit.collections_read[link] = 1
                    unit.links.setdefault(link, {})[left, right] = adds
                    if (link, pair) in source.known_links:
                        source.known_links.discard((link, pair))
                        unit.known_links.add((link, (left, right)))
                if not pairs:
                    del source.links[link]

    def _note_relations(self, obj: EntityBase) -> None:
        """Let a rollback undo what was changed of the relations of *obj* before it came."""
        unit = self.unit
        for name, attribute in obj._mapping_.collections.items():
            collection: Collection[Any] | None = obj.__dict__.get(name)
            if collection is None:
                continue
            if attribute.link is not None:
                unit.collections_read[attribute.link] = 1
            contents = collection.contents()
            if any(contents[1:]):
                if unit.savepoint is not None:  # for which it was as it was loaded
                    collection.restore()
                    unit.savepoint.filling(collection)
                    collection.put_back_all(contents)
                unit.journal.take_collection(collection)
        for reference in obj._mapping_.reference_attributes:
            if reference.is_virtual and obj._state_.is_persistent and reference.name in obj.__dict__:
                partner = obj.__dict__[reference.name]
                if partner is None or partner._state_.status is not Status.CLEAN:
                    del obj.__dict__[reference.name]  # let it be loaded again after a rollback
                    unit.journal.back_reference_changing(obj, reference.name)
                    obj.__dict__[reference.name] = partner


def _is_transient(obj: EntityBase) -> bool:
    return obj._state_.is_new or obj._state_.status is Status.TRANSIENT


def _is_key_only(obj: EntityBase, *, new_items: bool = False) -> bool:
    """Tell whether nothing but the key is known of *obj*, and nothing was changed; *new_items* may refer to it."""
    if unsaved(obj) or obj._state_.status is Status.MARKED_FOR_DELETION or not obj._mapping_.is_hollow(obj._row_):
        return False
    for value in obj.__dict__.values():
        if isinstance(value, Collection) and any(value.contents()):
            items, added, removed = value.contents()
            are_new = value.attribute.link is None and all(_is_transient(item) for item in added)
            if items or removed or not (new_items and are_new):
                return False
    return True


def _replace(obj: EntityBase, stand_ins: dict[EntityBase, EntityBase]) -> None:
    """Let *obj* refer to what takes the place of others."""
    values = obj.__dict__
    for attribute in obj._mapping_.reference_attributes:
        target = values.get(attribute.name)
        if target is not None and target in stand_ins:
            values[attribute.name] = stand_ins[target]
    for name in obj._mapping_.collections:
        collection: Collection[Any] | None = values.get(name)
        if collection is not None and any(item in stand_ins for part in collection.contents() for item in part or ()):
            items, added, removed = (
                None if part is None else {stand_ins.get(item, item): None for item in part}
                for part in collection.contents()
            )
            collection.put_back_all((items, added or {}, removed or {}))


def _join_as_new(unit: UnitOfWork, obj: EntityBase, made: Origin | None) -> None:
    if unit.savepoint is not None:
        unit.savepoint.made(obj)
    for name in obj._mapping_.collections:
        collection: Collection[Any] | None = obj.__dict__.get(name)
        if collection is not None and not collection.is_loaded:  # it was made while the object was saved
            collection.fill(())
    set_state(obj, unit.states.new)
    key = obj._key_
    if key is not None:
        unit.identity.add(obj, key)
    unit.new[obj] = made or origin()


def _join_as_loaded(unit: UnitOfWork, obj: EntityBase) -> None:
    status = obj._state_.status
    changes = unsaved(obj)
    for name, change in changes.items():
        _count_as_read(obj, name, change)
    set_state(obj, unit.states.clean)
    key = obj._key_
    unit.identity.add(obj, key)
    if obj._mapping_.is_hollow(row_seen(obj, changes)) and len(obj._mapping_.columns) > len(obj._mapping_.key_columns):
        unit.identity.hollow_of(obj._mapping_)[key] = obj
    if status not in {Status.DIRTY, Status.MARKED_FOR_DELETION}:
        return
    if unit.savepoint is not None:  # for which it was clean
        changed = {name: obj.__dict__.pop(name) for name in changes if name in obj.__dict__}
        unit.savepoint.keep(obj)
        obj.__dict__.update(changed)
    set_state(obj, unit.states.dirty if status is Status.DIRTY else unit.states.marked)
    unit.take_unsaved(obj)


def _count_as_read(obj: EntityBase, name: str, change: Any) -> None:
    """Let the old value of a changed attribute be compared: hours may lie between the copy and now."""
    attribute = obj._mapping_.attributes[name]
    if isinstance(change, PendingExpression):
        obj._changes_[name] = change._replace(was_read=change.raw is not NOT_LOADED)
    elif all(obj._row_[column.position] is not NOT_LOADED for column in attribute.columns):
        obj._changes_[name] = True


def _link_again(unit: UnitOfWork, obj: EntityBase) -> None:
    """Tell the other ends of *obj* of it, which was taken from them when it was rolled back, or deleted unsaved."""
    for attribute in obj._mapping_.reference_attributes:
        target = obj.__dict__.get(attribute.name)
        if target is not None and not attribute.is_virtual and target._state_.unit is unit:
            attribute.reverse.taken(target, obj, unit)
    for name, linked in obj._mapping_.collections.items():
        collection: Collection[Any] | None = obj.__dict__.get(name)
        if linked.link is not None and collection is not None:
            for item in collection.known:
                if item._state_.unit is unit:
                    linked.reverse.of(item).note_added(obj, unit)
                    unit.link_changed(linked, obj, item, add=True, known=True)
