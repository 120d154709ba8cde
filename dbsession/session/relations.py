"""The other side of relations: collections, links, and one-to-one relations seen from the end without a column.

Against N+1: the second collection of a kind that is touched is loaded for all objects that lack it,
and so is the second one-to-one relation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from dbsession.backends.flow import Flow
from dbsession.backends.statements import Result, Statement
from dbsession.model.attributes import Attribute
from dbsession.model.collections import Collection, CollectionAttribute
from dbsession.model.entity import EntityBase
from dbsession.model.references import ReferenceAttribute
from dbsession.session.autoflush import flush_ahead_of_rows
from dbsession.session.loading import materialize
from dbsession.session.lookups import Load, among, chunks, referring, run_loads, with_columns

if TYPE_CHECKING:
    from dbsession.session.unit_of_work import UnitOfWork

__all__ = [
    "asked_again",
    "find_referring",
    "is_linked",
    "items_load",
    "load_back_reference",
    "load_collection",
    "partners_load",
]


def load_back_reference(unit: UnitOfWork, obj: EntityBase, attribute: ReferenceAttribute) -> Flow[None]:
    """Find who refers to *obj* by the column on the other side; from the second time on, for all that lack it."""
    yield from flush_ahead_of_rows(unit, attribute.target)
    reference: ReferenceAttribute = attribute.reverse
    owners = [obj]
    if _is_second(unit, reference):
        owners += [other for other in _like(unit, attribute, obj) if attribute.name not in other.__dict__]
    groups = asked_again(unit, attribute, owners)
    yield from run_loads(
        unit, [partners_load(unit, attribute, group, is_read=True, refresh=again) for group, again in groups]
    )


def asked_again(
    unit: UnitOfWork, attribute: ReferenceAttribute | CollectionAttribute, owners: Iterable[EntityBase]
) -> list[tuple[list[EntityBase], bool]]:
    """Return *owners* in one or two groups, with whether the program wants what they have of *attribute* again."""
    owners, expired = list(owners), unit.identity.expired_ends
    if not expired:
        return [(owners, False)]
    again = [owner for owner in owners if (owner, attribute.name) in expired]
    others = [owner for owner in owners if (owner, attribute.name) not in expired]
    return [(group, is_again) for group, is_again in ((again, True), (others, False)) if group]


def _note_loaded(unit: UnitOfWork, name: str, owners: Iterable[EntityBase]) -> None:
    if unit.identity.expired_ends:
        unit.identity.expired_ends.difference_update([(owner, name) for owner in owners])


def partners_load(
    unit: UnitOfWork,
    attribute: ReferenceAttribute,
    owners: Iterable[EntityBase],
    lazy: Iterable[Attribute[Any]] = (),
    *,
    is_read: bool,
    refresh: bool = False,
) -> Load:
    """Return what finds who refers to *owners*, the other end of a one-to-one *attribute* without a column.

    *lazy*: attributes to be loaded too. *is_read*: the program asked for it, so that the references count as read.
    *refresh*: what was read of them before is forgotten.
    """
    owners = list(owners)
    reference: ReferenceAttribute = attribute.reverse
    source = with_columns(reference.mapping.wide, (reference, *lazy))

    def take(results: list[Result]) -> None:
        rows = [row for result in results for row in result.rows]
        found = materialize(unit, reference.mapping, rows, source, refresh=refresh)
        entity = attribute.target.entity
        unsaved = [other for other in (*unit.new, *unit.dirty) if isinstance(other, entity)]
        # Memory counts, not the row: somebody else may refer to the owner by now.
        partners = {_referred(unit, other, reference, is_read=is_read): other for other in found}
        if not is_read:
            unit.identity.note_followed(reference, dict.fromkeys(found))
        partners.update({other.__dict__.get(reference.name): other for other in unsaved})
        shows_changes = unit.transaction.wrote or unit.has_pending()
        for owner in owners:
            if shows_changes:
                unit.journal.back_reference_changing(owner, attribute.name)
            owner.__dict__[attribute.name] = partners.get(owner)
        _note_loaded(unit, attribute.name, owners)

    return Load(referring(reference, [owner._key_ for owner in owners], source), take)


def _referred(unit: UnitOfWork, obj: EntityBase, reference: ReferenceAttribute, *, is_read: bool) -> EntityBase | None:
    """Return the object that *obj* refers to, as far as memory knows."""
    if not is_read:
        return reference.known(obj, unit)
    target: EntityBase | None = getattr(obj, reference.name)
    return target


def _like(unit: UnitOfWork, attribute: ReferenceAttribute | CollectionAttribute, owner: EntityBase) -> list[EntityBase]:
    """Return the other saved objects that have *attribute*, as far as they may still lack what it holds.

    Those that were there the last time have it, so that only the ones behind them count, if *owner* is among these; a
    loop that gets one object after the other would look at all of them each time.
    """
    objects = unit.identity.of(attribute.mapping)
    for seen in (unit.seen_for.get(attribute, 0), 0):
        latest = list(islice(reversed(objects.values()), max(len(objects) - seen, 0)))
        if any(obj is owner for obj in latest):
            break
    unit.seen_for[attribute] = len(objects)
    entity = attribute.mapping.entity
    return [obj for obj in latest if obj is not owner and isinstance(obj, entity) and obj._state_.is_persistent]


def find_referring(unit: UnitOfWork, reference: ReferenceAttribute, target: EntityBase) -> EntityBase | None:
    """Return an object in memory that refers to *target* by a one-to-one *reference*; sends nothing.

    Whoever came to refer to it in this session has told it so. The others are found by their rows, each of which is
    looked at once.
    """
    objects = unit.identity.of(reference.mapping)
    by_key = unit.referring.setdefault(reference, {})
    kind = ("rows", reference)
    seen = unit.seen_for.get(kind, 0)
    if len(objects) != seen:
        entity, key_in = reference.mapping.entity, reference.key_in
        latest = len(objects) - seen if seen < len(objects) else len(objects)
        by_key.update({key_in(o._row_): o for o in islice(reversed(objects.values()), latest) if isinstance(o, entity)})
        unit.seen_for[kind] = len(objects)
    found = by_key.get(target._key_)
    released = unit.identity.released.get(reference.mapping.root)
    if found is None and released:
        alike = [obj for obj in released.values() if isinstance(obj, reference.mapping.entity)]
        found = next((obj for obj in alike if reference.known(obj, unit) is target), None)
    if found is None or not found._state_.may_change or reference.known(found, unit) is not target:
        return None
    return found


def _is_second(unit: UnitOfWork, kind: Any) -> bool:
    """Count one more reading of *kind*, the reference on the other side, and tell whether there was one before."""
    times = unit.collections_read[kind] = unit.collections_read.get(kind, 0) + 1
    return times > 1


def load_collection(unit: UnitOfWork, collection: Collection[Any]) -> Flow[None]:
    """Load *collection*; if it is not the first of its kind, load it for every object that lacks it."""
    attribute = collection.attribute
    yield from flush_ahead_of_rows(unit, attribute.target)
    owners = [collection.owner]
    if _is_second(unit, attribute.reverse):  # the same for a class and its subclasses
        owners += [other for other in _like(unit, attribute, collection.owner) if not attribute.of(other).is_loaded]
    groups = asked_again(unit, attribute, owners)
    yield from run_loads(
        unit, [items_load(unit, attribute, group, is_read=True, refresh=again) for group, again in groups]
    )


def items_load(
    unit: UnitOfWork,
    attribute: CollectionAttribute,
    owners: Iterable[EntityBase],
    lazy: Iterable[Attribute[Any]] = (),
    *,
    is_read: bool,
    refresh: bool = False,
) -> Load:
    """Return what loads the collections *attribute* of *owners*.

    *lazy*: attributes of the items to be loaded too. *is_read*: the program asked for the items, so that their
    references to the owners count as read. *refresh*: what was read of them before is forgotten.
    """
    owners = list(owners)
    if attribute.link is not None:
        return _linked_load(unit, attribute, owners, lazy, refresh=refresh)
    reference: ReferenceAttribute = attribute.reverse
    source = with_columns(reference.mapping.wide, (reference, *lazy))

    def take(results: list[Result]) -> None:
        rows = [row for result in results for row in result.rows]
        found = materialize(unit, reference.mapping, rows, source, refresh=refresh)
        items: dict[EntityBase, list[Any]] = {owner: [] for owner in owners}
        for item in found:
            owner = _referred(unit, item, reference, is_read=is_read)  # memory, not the row: it may have moved here
            if owner in items:
                items[owner].append(item)
            if item._state_.has_changes and reference.name in item._changes_:
                before = unit.find(attribute.mapping, reference.key_in(item._row_))
                if before is not owner and before in items:  # it moved away when nobody was there to be told
                    attribute.of(before).note_removed(item, unit)
        if not is_read:
            unit.identity.note_followed(reference, dict.fromkeys(found))
        _fill(unit, attribute, items)

    return Load(referring(reference, [owner._key_ for owner in owners], source), take)


def _fill(unit: UnitOfWork, attribute: CollectionAttribute, items: dict[EntityBase, list[Any]]) -> None:
    shows_changes = unit.transaction.wrote or unit.has_pending()  # what is deleted or has moved is not among the items
    for owner, belonging in items.items():
        collection = attribute.of(owner)
        if shows_changes:
            unit.journal.filling(collection)
        collection.fill(belonging)
    _note_loaded(unit, attribute.name, items)


def _linked_load(
    unit: UnitOfWork,
    attribute: CollectionAttribute,
    owners: Sequence[EntityBase],
    lazy: Iterable[Attribute[Any]],
    *,
    refresh: bool,
) -> Load:
    link = attribute.link
    assert link is not None
    mine, theirs = link.columns_of(attribute)
    target = attribute.target
    source = with_columns(target.wide, lazy)
    names = [f"l.{column.quoted}" for column in mine]
    picked = ", ".join([*names, *[f"t.{column.quoted}" for column in source]])
    on = " AND ".join(
        [f"t.{key.quoted} = l.{column.quoted}" for key, column in zip(target.key_columns, theirs, strict=True)]
    )
    by_key = {owner._key_: owner for owner in owners}
    statements: list[Statement] = []
    for keys in chunks(list(by_key)):
        where, params = among(target, names, keys)
        sql = f"SELECT {picked} FROM {link.quoted} l JOIN {target.quoted} t ON {on} WHERE {where}"
        statements.append(Statement(sql, params, returns=True))
    width, places = len(mine), [column.name for column in source]
    owner_key = itemgetter(*range(width))
    item_key = itemgetter(*[width + places.index(key.name) for key in target.key_columns])

    def take(results: list[Result]) -> None:
        rows = [row for result in results for row in result.rows]
        # A new object may have the key of a deleted one, whose links go with it.
        found = materialize(unit, target, [row[width:] for row in rows], source, refresh=refresh)
        linked = {item._key_: item for item in found}
        items: dict[EntityBase, list[Any]] = {owner: [] for owner in owners}
        for row in rows:
            item = linked.get(item_key(row))
            if item is not None and not item._state_.is_new:
                items[by_key[owner_key(row)]].append(item)
        _fill(unit, attribute, items)

    return Load(statements, take)


def is_linked(unit: UnitOfWork, collection: Collection[Any], item: EntityBase) -> Flow[bool]:
    """Ask whether a link exists."""
    attribute = collection.attribute
    link = attribute.link
    assert link is not None
    mine, theirs = link.columns_of(attribute)
    mark = attribute.mapping.dialect.placeholder
    match = " AND ".join([f"{column.quoted} = {mark}" for column in (*mine, *theirs)])
    params: list[Any] = []
    for key in (collection.owner._key_, item._key_):
        params += key if isinstance(key, tuple) else (key,)
    statement = Statement(f"SELECT 1 FROM {link.quoted} WHERE {match}", params, returns=True)
    results = yield from unit.transaction.read(statement)
    return bool(results[0].rows)
