"""Deleting an object, and what follows from it in memory.

The database does its part by itself: foreign keys are declared with ON DELETE CASCADE or SET NULL,
so rows that were never loaded need not be loaded to go. Here the objects that *are* in memory follow:
those whose reference is required are deleted, the others refer to nothing. Only entities with delete
hooks are loaded to be deleted, so that their hooks run.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import TYPE_CHECKING, Any

from dbsession.errors import ConstraintError
from dbsession.model.collections import CollectionAttribute
from dbsession.model.entity import EntityBase
from dbsession.model.mapping import Mapping
from dbsession.model.references import ReferenceAttribute
from dbsession.model.state import DISCARDED, UNSET, Status, set_changes, set_state
from dbsession.session.loading import below

if TYPE_CHECKING:
    from dbsession.session.unit_of_work import UnitOfWork

__all__ = ["delete", "in_doubt", "sweep", "with_parents", "withdraw"]

_DELETE_HOOKS = frozenset({"before_delete", "after_delete"})


def delete(unit: UnitOfWork, objects: Iterable[EntityBase]) -> None:
    """Mark *objects*, one after the other, and what cascades from them, for deletion.

    Raises:
        ConstraintError: others refer to one by a required attribute without ``cascade_delete``; nothing is marked.
    """
    going: dict[EntityBase, None] = {}
    staying: list[tuple[ReferenceAttribute, EntityBase]] = []
    autoflush, unit.autoflush = unit.autoflush, False  # what is loaded for it goes, or stays, with what is in memory
    try:
        _gather(unit, objects, going, staying)
    finally:
        unit.autoflush = autoflush
    for current in going:
        _mark(unit, current)
    for attribute, child in staying:
        if child._state_.may_change:
            attribute.refer(child, None, unit)


def _gather(
    unit: UnitOfWork,
    objects: Iterable[EntityBase],
    going: dict[EntityBase, None],
    staying: list[tuple[ReferenceAttribute, EntityBase]],
) -> None:
    """Find what goes with *objects*, and who stays and refers to nothing then."""
    gone: set[EntityBase] = set()  # with the objects before
    for obj in objects:
        with_it: list[EntityBase] = []
        todo = [obj]
        while todo:
            current = todo.pop()
            if current in going or not current._state_.may_change:
                continue
            going[current] = None
            with_it.append(current)
            for attribute, child in _children(unit, current, gone):
                if attribute.dies_with_target:
                    todo.append(child)
                else:
                    staying.append((attribute, child))
        gone.update(with_it)


def withdraw(unit: UnitOfWork, obj: EntityBase) -> None:
    """Let *obj*, which is new, be of no session: its construction has failed in the end."""
    _mark(unit, obj)


def _children(
    unit: UnitOfWork, obj: EntityBase, gone: Container[EntityBase]
) -> list[tuple[ReferenceAttribute, EntityBase]]:
    """Return the objects in memory, but for those *gone* before it, that refer to *obj*, and by which attribute."""
    children: list[tuple[ReferenceAttribute, EntityBase]] = []
    for collection_attribute in obj._mapping_.collections.values():
        reverse = collection_attribute.reverse
        if isinstance(reverse, CollectionAttribute):
            continue
        collection = collection_attribute.of(obj)
        if not collection.is_loaded and _must_be_known(reverse):
            collection.load()
        children += _allowed(obj, reverse, [child for child in collection.known if child not in gone])
    for attribute in obj._mapping_.reference_attributes:
        if attribute.is_virtual:
            if attribute.name not in obj.__dict__ and _must_be_known(attribute.reverse) and not obj._state_.is_new:
                unit.load_back_reference(obj, attribute)
            partner = obj.__dict__.get(attribute.name)
            if partner is not None and partner not in gone:
                children += _allowed(obj, attribute.reverse, [partner])
    return children


def _must_be_known(reference: ReferenceAttribute) -> bool:
    """Whether those who refer by *reference* are loaded to be deleted: to run their hooks, or to be refused."""
    if reference.dies_with_target:
        return _has_delete_hooks(reference.mapping.root)
    return reference.is_required


def _allowed(
    obj: EntityBase, reference: ReferenceAttribute, children: list[EntityBase]
) -> list[tuple[ReferenceAttribute, EntityBase]]:
    """Return *children*, or raise if they can neither go with *obj* nor stay without it."""
    if children and reference.is_required and not reference.dies_with_target:
        raise ConstraintError(
            f"{obj!r} cannot be deleted: {len(children)} {reference.mapping.name} (such as {children[0]!r}) "
            f"refer to it by the required attribute {reference!r}, and cascade_delete is off; delete them first, "
            f"or give them another {reference.name}"
        )
    return [(reference, child) for child in children]


def _has_delete_hooks(root: Mapping) -> bool:
    """Whether deleting an object of the table *root*, or what cascades from it, runs a hook."""
    known: bool | None = root.sql.get("delete hooks")
    if known is None:
        seen = {root}
        todo = [root]
        while todo:
            for member in todo.pop().family():
                for attribute in member.references_here:
                    if attribute.dies_with_target and attribute.mapping.root not in seen:
                        seen.add(attribute.mapping.root)
                        todo.append(attribute.mapping.root)
        known = any(member.hooks & _DELETE_HOOKS for table in seen for member in table.family())
        root.sql["delete hooks"] = known
    return known


def in_doubt(deleted: list[EntityBase]) -> set[EntityBase]:
    """Return those of *deleted* whose rows the database may take along with another one's.

    What lies between the two in a chain of references is not in memory, so their order is not known.
    """
    if len(deleted) < 2:
        return set()
    marked = {(obj._mapping_.root, obj._key_) for obj in deleted}
    reached = {table for root in {root for root, _ in marked} for table in below(root)}
    found: set[EntityBase] = set()
    for obj in deleted:
        for attribute in obj._mapping_.reference_attributes:
            if attribute.is_virtual or attribute.target.root not in reached or not attribute.dies_with_target:
                continue
            key = attribute.key_in(obj._row_)
            if key is not None and (attribute.target.root, key) not in marked:
                found.add(obj)
    return found


def _mark(unit: UnitOfWork, obj: EntityBase) -> None:
    if unit.savepoint is not None:
        unit.savepoint.keep(obj)
    for attribute in obj._mapping_.reference_attributes:
        if not attribute.is_virtual and attribute.reverse is not None:
            owner = attribute.known(obj, unit)
            if owner is not None and owner._state_.unit is unit:
                attribute.reverse.released(owner, obj, unit)
    for collection_attribute in obj._mapping_.collections.values():
        if isinstance(collection_attribute.reverse, CollectionAttribute):
            linked = [item for item in _linked(unit, obj, collection_attribute) if item._state_.unit is unit]
            for item in linked:
                collection_attribute.reverse.of(item).note_removed(obj, unit)
    if obj._state_.is_new:
        unit.new.pop(obj, None)
        unit.free_key(obj)
        set_state(obj, DISCARDED)
        return
    if obj._state_.status is Status.CLEAN:
        set_changes(obj, {})
    unit.dirty.pop(obj, None)
    unit.deleted[obj] = None
    if obj._mapping_.hooks:
        unit.has_hooks = True
    set_state(obj, unit.states.marked)


def _linked(unit: UnitOfWork, obj: EntityBase, attribute: CollectionAttribute) -> list[EntityBase]:
    """Return the objects whose collections have *obj* in them, by a many-to-many *attribute*."""
    collection = attribute.of(obj)
    known: list[EntityBase] = collection.known
    read = unit.collections_read
    if collection.is_loaded or not (read.get(attribute.reverse.reverse) or read.get(attribute.link)):
        return known
    name = attribute.reverse.name
    return known + [
        other
        for other in unit.identity.alive(attribute.target).values()
        if name in other.__dict__
        and other.__dict__[name].is_loaded
        and obj in other.__dict__[name]
        and other not in known
    ]


def sweep(unit: UnitOfWork) -> None:
    """Let objects in memory whose collections were not loaded follow the objects that are marked for deletion."""
    swept: set[EntityBase] = set()
    while todo := [obj for obj in unit.deleted if obj not in swept]:
        swept.update(todo)
        by_mapping: dict[Mapping, set[Any]] = {}
        for obj in todo:
            by_mapping.setdefault(obj._mapping_, set()).add(obj._key_)
        for mapping, keys in by_mapping.items():
            above: Mapping | None = mapping
            while above is not None:
                for attribute in above.references_here:
                    _sweep_references(unit, attribute, keys)
                above = above.parent


def _sweep_references(unit: UnitOfWork, attribute: ReferenceAttribute, keys: set[Any]) -> None:
    for child in list(unit.identity.alive(attribute.mapping).values()):
        if not child._state_.may_change or not isinstance(child, attribute.mapping.entity):
            continue
        value = child.__dict__.get(attribute.name, UNSET)
        if value is UNSET:
            refers = attribute.key_in(child._row_) in keys
        else:
            refers = value is not None and value._state_.status is Status.MARKED_FOR_DELETION
        if refers and attribute.dies_with_target:
            delete(unit, (child,))
        elif refers:
            attribute.refer(child, None, unit)


def with_parents(unit: UnitOfWork, objects: Iterable[EntityBase]) -> set[EntityBase]:
    """Return *objects* and the new objects that they refer to, directly or not."""
    found: set[EntityBase] = set()
    todo = list(objects)
    while todo:
        obj = todo.pop()
        if obj in found:
            continue
        found.add(obj)
        for attribute in obj._mapping_.reference_attributes:
            target = obj.__dict__.get(attribute.name)
            if target is not None and target in unit.new:
                todo.append(target)
    return found
