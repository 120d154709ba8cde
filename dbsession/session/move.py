"""Objects on their way into a unit of work: what is looked at first, and what is done then.

`attaching` says which objects go. Here they are given their places: all keys and ends are looked at before anything has
moved, so that what is refused has changed nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dbsession.errors import (
    CacheIndexError,
    ConstraintError,
)
from dbsession.model.attributes import PendingExpression
from dbsession.model.collections import Collection, CollectionAttribute
from dbsession.model.entity import EntityBase
from dbsession.model.mapping import LinkTable, Mapping
from dbsession.model.references import ReferenceAttribute
from dbsession.model.state import NOT_LOADED, State, Status, set_state
from dbsession.session.changes import row_seen, unsaved
from dbsession.session.identity_map import ObjectSet
from dbsession.session.key_places import moves_away
from dbsession.session.loading import assigned_key
from dbsession.session.origins import Origin, origin
from dbsession.session.savepoint import LinkChange
from dbsession.session.undone import brings_changes, leads_by_change, note_brought

if TYPE_CHECKING:
    from dbsession.session.unit_of_work import UnitOfWork

__all__ = ["Move", "is_transient"]


class Move:
    """Objects on their way to *unit*."""

    def __init__(self, unit: UnitOfWork, objects: dict[EntityBase, None], verb: str) -> None:
        self.unit = unit
        self.objects = objects
        self.verb = verb
        self.stand_ins: dict[EntityBase, EntityBase] = {}  # of which only the key is known, and what takes their place
        self.links: list[tuple[UnitOfWork, LinkTable, tuple[Any, Any]]] = []  # unsaved ones, and where they are
        self.brought: dict[EntityBase, None] = {}  # those that would be undone if this were rolled back

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
        if not is_transient(obj) and _is_key_only(obj, new_items=True) and other._state_.may_change:
            self.stand_ins[obj] = other  # which is told of the new objects that refer to it
            return True
        is_bare = not is_transient(other) and _is_key_only(other)
        if is_bare and (other in self.objects or (self.unit.is_detached and not is_transient(obj))):
            self.stand_ins[other] = obj
            return False
        if is_transient(obj):
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

    def find_links(self) -> None:
        """Find the unsaved links that go with the objects."""
        coming, unit = self.objects, self.unit
        units: dict[Any, None] = dict.fromkeys([obj._state_.unit for obj in coming])
        for source in units:
            for link, pairs in source.links.items() if source is not None else ():
                for pair in pairs:
                    if all(end in coming or end._state_.unit is unit for end in pair):
                        self.links.append((source, link, pair))
                        if not any(map(is_transient, pair)):  # else the transient one still has it after a rollback
                            self.brought.update(dict.fromkeys([end for end in pair if end in coming]))

    def require_writable(self) -> None:
        """Raise `InvalidRequestError` if there are changes, and the innermost scope is read-only."""
        savepoint = self.unit.savepoint
        if savepoint is not None and (self.links or any(is_transient(obj) or unsaved(obj) for obj in self.objects)):
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
            if is_transient(obj):
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
        lost = [obj for obj in self.objects if obj._state_.unit is None and is_transient(obj)]
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
        for obj in self.brought if not unit.is_detached else ():
            if obj not in self.stand_ins:
                note_brought(unit, obj)

    def _links_here(self) -> Iterator[tuple[CollectionAttribute, EntityBase, EntityBase]]:
        """Yield the many-to-many links of transient objects to objects that the unit has already."""
        for obj in self.objects:
            for attribute in obj._mapping_.collections.values() if is_transient(obj) else ():
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
            made = source.new.get(obj)
            source.forget_unsaved(obj)
            source.identity.remove(obj, obj._key_)
            unit.moves_keys = unit.moves_keys or source.moves_keys
        unit.has_hooks = unit.has_hooks or bool(obj._mapping_.hooks)
        if is_transient(obj):
            _join_as_new(unit, obj, made)
        else:
            _join_as_loaded(unit, obj)

    def _stand_in(self, obj: EntityBase) -> EntityBase:
        return self.stand_ins.get(obj, obj)

    def _move_links(self) -> None:
        unit = self.unit
        for source, link, pair in self.links:
            left, right = (self._stand_in(end) for end in pair)
            adds = source.links[link].pop(pair)
            if not source.links[link]:
                del source.links[link]
            if unit.savepoint is not None:
                unit.savepoint.link_changing(LinkChange(link, (left, right), None, is_known=False))
            unit.collections_read[link] = 1
            unit.links.setdefault(link, {})[left, right] = adds
            if (link, pair) in source.known_links:
                source.known_links.discard((link, pair))
                unit.known_links.add((link, (left, right)))

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
                if partner is None or leads_by_change(obj, partner):
                    del obj.__dict__[reference.name]  # let it be loaded again after a rollback
                    unit.journal.back_reference_changing(obj, reference.name)
                    obj.__dict__[reference.name] = partner


def is_transient(obj: EntityBase) -> bool:
    """Tell whether *obj* was never saved, as far as anybody knows."""
    return obj._state_.is_new or obj._state_.status is Status.TRANSIENT


def _is_key_only(obj: EntityBase, *, new_items: bool = False) -> bool:
    """Tell whether nothing but the key is known of *obj*, and nothing was changed; *new_items* may refer to it."""
    if unsaved(obj) or obj._state_.status is Status.MARKED_FOR_DELETION or not obj._mapping_.is_hollow(obj._row_):
        return False
    for value in obj.__dict__.values():
        if isinstance(value, Collection) and any(value.contents()):
            items, added, removed = value.contents()
            are_new = value.attribute.link is None and all(is_transient(item) for item in added)
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
    is_undone = obj._state_.is_undone or brings_changes(obj)  # the latter if a rollback comes
    set_state(obj, unit.states.undone if is_undone else unit.states.clean)
    key = obj._key_
    unit.identity.add(obj, key)
    if obj._mapping_.is_hollow(row_seen(obj, changes)) and len(obj._mapping_.columns) > len(obj._mapping_.key_columns):
        unit.identity.hollow_of(obj._mapping_)[key] = obj
    if status not in {Status.DIRTY, Status.MARKED_FOR_DELETION}:
        return
    if unit.savepoint is not None:  # after which it is undone
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
