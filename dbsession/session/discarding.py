"""Throwing unsaved changes of one object away: it is as it was loaded, and so are the other ends of its relations.

A reference goes back to what the row says: whoever took the place at the other end of a one-to-one relation loses it,
as by an assignment. The links of a many-to-many relation that were to be made or removed are forgotten. Collections at
both ends are loaded again when they are touched, since what stood in them before is not kept. What belongs to other
objects is left to them: the items of a one-to-many collection are the ones that have changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from dbsession.errors import CacheIndexError
from dbsession.model.attributes import PendingExpression
from dbsession.model.collections import Collection, CollectionAttribute
from dbsession.model.entity import EntityBase
from dbsession.model.mapping import LinkTable
from dbsession.model.references import ReferenceAttribute
from dbsession.model.state import NOT_LOADED, Status
from dbsession.session.changes import unsaved
from dbsession.session.loading import assigned_key
from dbsession.session.savepoint import LinkChange

if TYPE_CHECKING:
    from dbsession.session.unit_of_work import UnitOfWork

__all__ = ["discard_changes", "discard_links", "forget_items"]


def discard_changes(unit: UnitOfWork, obj: EntityBase, names: Iterable[str]) -> None:
    """Throw the unsaved changes of the attributes *names* of *obj* away; all of them, or, on an error, none.

    Raises:
        CacheIndexError: another object has taken the key, or the place in a one-to-one relation, that it would need.
        InvalidRequestError: within an inner scope that has promised to change nothing.
    """
    changes = unsaved(obj)
    attributes: list[Any] = [obj._mapping_.attributes[name] for name in names if name in changes]
    if not attributes:
        return
    if any(attribute.is_key for attribute in attributes):
        _require_free_key(unit, obj)
    targets = {each: _saved_target(unit, obj, each) for each in attributes if isinstance(each, ReferenceAttribute)}
    for reference, target in targets.items():
        if target is not None:
            reference.require_free_end(obj, target)
    if unit.savepoint is not None:
        unit.savepoint.keep(obj)
    for attribute in attributes:
        before = attribute.known(obj, unit) if attribute in targets else None
        if isinstance(changes[attribute.name], PendingExpression):
            attribute.forget_expression(obj)
        changes.pop(attribute.name, None)
        obj.__dict__.pop(attribute.name, None)
        if attribute in targets:
            _leave(unit, obj, attribute, before, targets[attribute])
    if not changes:
        unit.forget_changes(obj)


def _leave(
    unit: UnitOfWork, obj: EntityBase, reference: ReferenceAttribute, now: EntityBase | None, target: EntityBase | None
) -> None:
    """Let the other ends of *reference* know that *obj* does not refer to *now*, but to *target* as it did before."""
    reverse = reference.reverse
    if not isinstance(reverse, CollectionAttribute):
        reference.tell(obj, now, target, unit)
        if now is not None and reverse.is_virtual and reference.key_in(obj._row_) is NOT_LOADED:
            now.__dict__.pop(reverse.name, None)  # it may be the one all the same
        return
    for owner in (now, target):
        if owner is not None and reverse.name in owner.__dict__:
            _forget_end(unit, reverse.of(owner), obj)


def _require_free_key(unit: UnitOfWork, obj: EntityBase) -> None:
    """Raise unless *obj* can go back to the key of its row."""
    key, mapping = obj._key_, obj._mapping_
    moved = [other for other in unit.dirty if other._mapping_.root is mapping.root and assigned_key(other) == key]
    for other in (unit.identity.find(mapping, key), *moved):  # the first may be a new one
        if other is None or other is obj:
            continue
        raise CacheIndexError(
            f"the changed key of {obj!r} cannot be discarded: {other!r} ({other._state_.status.label}) is to have its "
            f"old one; flush() first, or give that object another key"
        )


def _saved_target(unit: UnitOfWork, obj: EntityBase, reference: ReferenceAttribute) -> EntityBase | None:
    """Return whom *obj* refers to by its row; None also where that is not known."""
    key = reference.key_in(obj._row_)
    return None if key is None or key is NOT_LOADED else unit.reference(reference.target, key)


def discard_links(unit: UnitOfWork, obj: EntityBase, attributes: Iterable[CollectionAttribute]) -> None:
    """Forget the links of *obj*, by the many-to-many *attributes*, that are to be made or removed."""
    for attribute in attributes:
        link = attribute.link
        pairs = unit.links.get(link) if link is not None else None
        if link is None or not pairs:
            continue
        for pair in list(pairs):
            for mine, item in _seen_from(attribute, link, pair):
                if mine is obj and pair in pairs:
                    _discard_link(unit, link, pair)
                    _forget_end(unit, attribute.of(obj), item)
                    _forget_end(unit, attribute.reverse.of(item), obj)
        if not pairs:
            unit.links.pop(link, None)


def _seen_from(attribute: CollectionAttribute, link: LinkTable, pair: tuple[Any, Any]) -> list[tuple[Any, Any]]:
    """Return *pair* as (owner, item) of *attribute*; both ways round where the two sides are one."""
    left, right = pair
    if link.is_symmetric:
        return [(left, right), (right, left)]
    return [(left, right) if attribute.is_left else (right, left)]


def _discard_link(unit: UnitOfWork, link: LinkTable, pair: tuple[Any, Any]) -> None:
    pairs = unit.links[link]
    is_known = (link, pair) in unit.known_links
    if unit.savepoint is not None:
        unit.savepoint.require_writable()
        unit.savepoint.link_changing(LinkChange(link, pair, pairs[pair], is_known))
    unit.known_links.discard((link, pair))
    del pairs[pair]


def _forget_end(unit: UnitOfWork, collection: Collection[Any], item: EntityBase) -> None:
    if collection.owner._state_.is_new:  # there is nothing to load again
        collection.note_removed(item, unit)
    else:
        forget_items(unit, collection)


def forget_items(unit: UnitOfWork, collection: Collection[Any]) -> None:
    """Let *collection*, of a saved object, be loaded again when it is needed; what is unsaved in it stays so."""
    if unit.savepoint is not None:
        unit.savepoint.filling(collection)
    collection.forget(keeping=[item for item in collection.changed if _is_unsaved(unit, collection, item)])


def _is_unsaved(unit: UnitOfWork, collection: Collection[Any], item: EntityBase) -> bool:
    """Tell whether the coming or going of *item* is not in the database yet."""
    attribute: CollectionAttribute = collection.attribute
    link = attribute.link
    if link is None:
        state = item._state_
        is_going = state.status is Status.MARKED_FOR_DELETION
        return state.is_new or is_going or attribute.reverse.name in unsaved(item)
    here = (collection.owner, item)
    return any(here in _seen_from(attribute, link, pair) for pair in unit.links.get(link, ()))
