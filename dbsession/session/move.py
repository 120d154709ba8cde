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
    OperationWithDeletedObjectError,
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
from dbsession.session.loading import assigned_key, fill_hollow
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
        self.stand_ins: dict[EntityBase, EntityBase] = {}  # those that give way, and what takes their place
        self.links: list[tuple[UnitOfWork, LinkTable, tuple[Any, Any]]] = []  # unsaved ones, and where they are
        self.brought: dict[EntityBase, None] = {}  # those that would be undone if this were rolled back

    # --- what is looked at before anything moves --------------------------------------------------

    def require_keys(self) -> None:
        """Raise unless each object can stand under its key; those that were not changed give way to the unit's.

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
        if self._may_give_way(obj, other):
            self.stand_ins[obj] = other
            return True
        if (other in self.objects or self.unit.is_detached) and self._may_give_way(other, obj):
            self.stand_ins[other] = obj
            return False
        for new, saved in ((obj, other), (other, obj)):
            if is_transient(new) and (new is obj or new in self.objects):  # it may take the key of one that goes
                self._require_free(new, new._key_, saved)
                return False
        if other._state_.status is Status.MARKED_FOR_DELETION and other not in self.objects:
            raise OperationWithDeletedObjectError(
                f"Cannot {self.verb} {obj!r}: its row was deleted in this session; rollback() would bring it back"
            )
        raise CacheIndexError(
            f"Cannot {self.verb} {obj!r}: there is another object for its row {self._where(other)} already "
            f"({other._state_.label}), and changes of both could not be saved; session.merge(obj) brings what was "
            f"changed to that one; or attach it before the session knows the row"
        )

    def _may_give_way(self, obj: EntityBase, other: EntityBase) -> bool:
        """Tell whether nothing is lost if *other* stands for the row of *obj* from now on.

        That others have come to refer to *obj*, or do no more, is no knowledge of its own: *other* will be told.
        """
        is_hollow = obj._mapping_.is_hollow(obj._row_)
        if is_transient(obj) or (brings_changes(obj) and not (is_hollow and _only_follows(obj))):
            return False
        if self.unit.is_detached:  # both are in the hands of the program, and one would be there for nothing
            return is_hollow and not _has_items(obj, but_new=obj in self.objects)
        if is_transient(other) or not other._state_.may_change:
            return is_hollow and (other._state_.status is not Status.MARKED_FOR_DELETION or other in self.objects)
        is_alike = isinstance(obj, type(other)) or isinstance(other, type(obj))
        return is_alike and (is_hollow or all(obj not in pair for _, _, pair in self.links))

    def _where(self, other: EntityBase) -> str:
        if self.unit.is_detached:
            return "among the objects that it is linked to"
        return "among the objects that come with it" if other in self.objects else "in this session"

    def _require_free(self, obj: EntityBase, key: Any, other: EntityBase | None = None) -> None:
        mapping = obj._mapping_
        other = other or self.unit.identity.find(mapping, key)
        if other is None or other is obj or not other._state_.may_change or moves_away(other, key):
            return
        raise CacheIndexError(
            f"Cannot {self.verb} {obj!r}: {mapping.describe_key(key)} exists {self._where(other)} already: {other!r} "
            f"({other._state_.label}); change that object, or delete it first"
        )

    def find_links(self) -> None:
        """Find the unsaved links that go with the objects."""
        coming, unit = self.objects, self.unit
        sources: dict[Any, None] = dict.fromkeys([obj._state_.unit for obj in coming])
        sources.pop(None, None)
        for source in sources:
            for link, pairs in source.links.items():
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
            if target._state_.unit is self.unit and not target._state_.may_change:
                raise ConstraintError(
                    f"Cannot {self.verb} {obj!r}: its {attribute.name} is {target!r}, which was deleted in this session"
                )
            attribute.require_free_end(obj, target)

    def _references_here(self) -> Iterator[tuple[EntityBase, ReferenceAttribute, EntityBase]]:
        """Yield the references, new and changed ones, to objects of the unit, and to those that stand for others."""
        for obj in self.objects:
            changes = None if is_transient(obj) else unsaved(obj)
            for attribute in obj._mapping_.reference_attributes if changes is None or changes else ():
                target = obj.__dict__.get(attribute.name)
                if target is None or attribute.is_virtual or not (changes is None or attribute.name in changes):
                    continue
                there = self._stand_in(target)
                if there is not target or there._state_.unit is self.unit:
                    yield obj, attribute, there

    # --- the move ---------------------------------------------------------------------------------

    def carry_out(self) -> None:
        """Move everything."""
        unit = self.unit
        lost = [obj for obj in self.objects if obj._state_.unit is None and is_transient(obj)]
        untold = list(self._references_here())
        links_here = list(self._links_here())
        self._make_room()
        to_fill = self._to_fill()
        if not unit.is_detached and unit.fresh is None:
            unit.fresh = ObjectSet()
            unit.fresh.update([obj for obj in (*unit.identity, *unit.new) if obj not in to_fill])
        moving = [obj for obj in self.objects if obj not in self.stand_ins]
        for obj in sorted(moving, key=is_transient):  # which may take the keys of those that go
            self._leave_and_join(obj)
        for obj, attribute, target in untold:
            attribute.reverse.taken(target, obj, unit)
        for reverse, obj, item in links_here:
            reverse.of(item).note_added(obj, unit)
        for there, obj in to_fill.items():
            fill_hollow(unit, there, obj)
        for obj, there in self.stand_ins.items():
            _tell_instead(unit, obj, there)
        self._move_links()
        for obj in lost:
            _link_again(unit, obj)
        for obj in moving if not unit.is_detached else ():
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
        """Put what stands for a row in the place of what gives way."""
        if not self.stand_ins:
            return
        self.stand_ins = {obj: self._stand_in(obj) for obj in self.stand_ins}
        stays = self.unit.identity if any(obj not in self.objects for obj in self.stand_ins) else ()
        for obj in (*self.objects, *stays):
            if obj not in self.stand_ins:
                _replace(obj, self.stand_ins)
        gone = State(Status.DETACHED, None, "another object stands for its row where it was attached")
        for obj in self.stand_ins:
            theirs: Any = obj._state_.unit
            if theirs is not None:
                theirs.forget_unsaved(obj)
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
        while obj in self.stand_ins:  # the last of a chain
            obj = self.stand_ins[obj]
        return obj

    def _to_fill(self) -> dict[EntityBase, EntityBase]:
        """Return objects of the session of which only the key is known, and what is known of their rows by others.

        After a write, or where it was expired, the database may have something newer.
        """
        unit = self.unit
        found: dict[EntityBase, EntityBase] = {}
        if unit.is_detached or unit.transaction.wrote:
            return found
        for obj, there in self.stand_ins.items():
            is_usual = (
                there not in self.objects and there._state_.status is Status.CLEAN and isinstance(obj, type(there))
            )
            is_expired = unit.fresh is not None and there in unit.fresh
            lacks_row, has_none = (each._mapping_.is_hollow(each._row_) for each in (there, obj))
            if is_usual and not is_expired and lacks_row and not has_none:
                found[there] = obj
        return found

    def _move_links(self) -> None:
        unit = self.unit
        for source, link, pair in self.links:
            adds = source.links[link].pop(pair)
            if not source.links[link]:
                del source.links[link]
            is_known = (link, pair) in source.known_links
            source.known_links.discard((link, pair))
            if not self.stand_ins.keys().isdisjoint(
                pair
            ):  # both ends, which do not know yet, are told as by the program
                owner, item = map(self._stand_in, pair)
                collection = link.left.of(owner)
                collection.add(item) if adds else collection.remove(item)
                continue
            if unit.savepoint is not None:
                unit.savepoint.link_changing(LinkChange(link, pair, None, is_known=False))
            unit.collections_read[link] = 1
            unit.links.setdefault(link, {})[pair] = adds
            if is_known:
                unit.known_links.add((link, pair))

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


def _only_follows(obj: EntityBase) -> bool:
    """Tell whether all that has changed of *obj* is who refers to it, in relations with a column at both ends."""
    if obj._state_.status is not Status.DIRTY:
        return False
    for name in unsaved(obj):
        reference: Any = obj._mapping_.attributes[name]
        partner = obj.__dict__.get(name)
        is_symmetric = isinstance(reference, ReferenceAttribute) and reference.reverse is reference
        if not is_symmetric or partner is None or partner.__dict__.get(name) is not obj:
            return False
    return True


def _has_items(obj: EntityBase, *, but_new: bool) -> bool:
    """Tell whether the collections of *obj* know anything; *but_new*: beside those that have come to refer to it."""
    for name, attribute in obj._mapping_.collections.items():
        collection: Collection[Any] | None = obj.__dict__.get(name)
        items, added, removed = (None, {}, {}) if collection is None else collection.contents()
        if items or ((added or removed) and not (but_new and attribute.link is None)):
            return True
    return False


def _replace(obj: EntityBase, stand_ins: dict[EntityBase, EntityBase]) -> None:
    """Let *obj* refer to what takes the place of others."""
    values = obj.__dict__
    for attribute in obj._mapping_.reference_attributes:
        target = values.get(attribute.name)
        if target is not None and target in stand_ins:
            values[attribute.name] = stand_ins[target]
    for name, linked in obj._mapping_.collections.items():
        collection: Collection[Any] | None = values.get(name)
        if collection is None or not any(item in stand_ins for part in collection.contents() for item in part or ()):
            continue
        items, added, removed = collection.contents()
        if linked.link is not None and obj._state_.unit is not None:  # the link is made, or removed, once more
            gone = stand_ins.keys()
            items = None if items is None else {i: None for i in (*items, *removed) if i not in added or i not in gone}
            added, removed = ({item: None for item in part if item not in gone} for part in (added, removed))
            items = None if items is None else {i: None for i in items if i not in removed}
        parts = [
            None if part is None else {stand_ins.get(i, i): None for i in part} for part in (items, added, removed)
        ]
        collection.put_back_all((parts[0], parts[1] or {}, parts[2] or {}))


def _tell_instead(unit: UnitOfWork, obj: EntityBase, there: EntityBase) -> None:
    """Tell *there* what was told to *obj*, in whose place it is: who refers to it by now, and who does no more."""
    for name, attribute in obj._mapping_.collections.items():
        collection: Collection[Any] | None = obj.__dict__.get(name)
        if attribute.link is None and collection is not None:
            _, added, removed = collection.contents()
            for item in added:
                if item._state_.unit is unit:
                    attribute.taken(there, item, unit)
            for item in removed:
                if item._state_.unit is unit:
                    attribute.released(there, item, unit)
    for reference in obj._mapping_.reference_attributes:
        follows = reference.is_virtual or reference.reverse is reference
        partner = obj.__dict__.get(reference.name) if follows else None
        if partner is not None and partner._state_.unit is unit and leads_by_change(there, partner):
            reference.taken(there, partner, unit)


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
