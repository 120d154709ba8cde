"""The other side of relations: collections, links, and one-to-one relations seen from the end without a column.

Against N+1: the second collection of a kind that is touched is loaded for all objects that lack it,
and so is the second one-to-one relation.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from dbsession.backends.flow import Flow
from dbsession.backends.statements import Statement
from dbsession.model.collections import Collection, CollectionAttribute
from dbsession.model.entity import EntityBase
from dbsession.model.references import ReferenceAttribute
from dbsession.query.compiled import compile_fetch
from dbsession.query.selected import Selected
from dbsession.session.loading import KEYS_AT_ONCE, materialize

if TYPE_CHECKING:
    from dbsession.session.unit_of_work import UnitOfWork

__all__ = ["find_referring", "is_linked", "load_back_reference", "load_collection"]


def load_back_reference(unit: UnitOfWork, obj: EntityBase, attribute: ReferenceAttribute) -> Flow[None]:
    """Find who refers to *obj* by the column on the other side; from the second time on, for all that lack it."""
    reference: ReferenceAttribute = attribute.reverse
    owners = [obj]
    if _is_second(unit, reference):
        owners += [other for other in _like(unit, attribute, obj) if attribute.name not in other.__dict__]
    found = yield from _referring(unit, reference, owners)
    entity = attribute.target.entity
    unsaved = [other for other in (*unit.new, *unit.dirty) if isinstance(other, entity)]
    # Memory counts, not the row: somebody else may refer to the owner by now.
    partners = {getattr(other, reference.name): other for other in found}
    partners.update({other.__dict__.get(reference.name): other for other in unsaved})
    shows_changes = unit.transaction.wrote or unit.has_pending()
    for owner in owners:
        if shows_changes:
            unit.journal.back_reference_changing(owner, attribute.name)
        owner.__dict__[attribute.name] = partners.get(owner)


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
    if found is None or not found._state_.may_change or reference.known(found, unit) is not target:
        return None
    return found


def _is_second(unit: UnitOfWork, kind: Any) -> bool:
    """Count one more reading of *kind*, the reference on the other side, and tell whether there was one before."""
    times = unit.collections_read[kind] = unit.collections_read.get(kind, 0) + 1
    return times > 1


def _referring(unit: UnitOfWork, reference: ReferenceAttribute, owners: list[EntityBase]) -> Flow[list[Any]]:
    """Load the objects that refer to one of *owners* by *reference*."""
    mapping = reference.mapping
    found: list[Any] = []
    selections = [
        compile_fetch(Selected.of(mapping, reference.in_(owners[start : start + KEYS_AT_ONCE])))
        for start in range(0, len(owners), KEYS_AT_ONCE)
    ]
    results = yield from unit.transaction.read(*[Statement(c.sql, c.bind(()), returns=True) for c in selections])
    for compiled, result in zip(selections, results, strict=True):
        found += materialize(unit, mapping, result.rows, compiled.source)
    return found


def load_collection(unit: UnitOfWork, collection: Collection[Any]) -> Flow[None]:
    """Load *collection*; if it is not the first of its kind, load it for every object that lacks it."""
    attribute = collection.attribute
    owners = [collection.owner]
    if _is_second(unit, attribute.reverse):  # the same for a class and its subclasses
        owners += [other for other in _like(unit, attribute, collection.owner) if not attribute.of(other).is_loaded]
    if attribute.link is not None:
        yield from _load_linked(unit, attribute, owners)
        return
    reference = attribute.reverse
    found = yield from _referring(unit, reference, owners)
    items: dict[EntityBase, list[Any]] = {owner: [] for owner in owners}
    for item in found:
        owner = getattr(item, reference.name)  # memory, not the row: it may have moved here
        if owner in items:
            items[owner].append(item)
        if item._state_.has_changes and reference.name in item._changes_:
            before = unit.find(attribute.mapping, reference.key_in(item._row_))
            if before is not owner and before in items:  # it moved away when nobody was there to be told
                attribute.of(before).note_removed(item, unit)
    _fill(unit, attribute, items)


def _fill(unit: UnitOfWork, attribute: CollectionAttribute, items: dict[EntityBase, list[Any]]) -> None:
    shows_changes = unit.transaction.wrote or unit.has_pending()  # what is deleted or has moved is not among the items
    for owner, belonging in items.items():
        collection = attribute.of(owner)
        if shows_changes:
            unit.journal.filling(collection)
        collection.fill(belonging)


def _load_linked(unit: UnitOfWork, attribute: CollectionAttribute, owners: list[EntityBase]) -> Flow[None]:
    link = attribute.link
    assert link is not None
    mine, theirs = link.columns_of(attribute)
    target = attribute.target
    mark = target.dialect.placeholder
    names = ", ".join([f"l.{column.quoted}" for column in mine])
    picked = ", ".join([f"t.{column.quoted}" for column in target.wide])
    on = " AND ".join(
        [f"t.{key.quoted} = l.{column.quoted}" for key, column in zip(target.key_columns, theirs, strict=True)]
    )
    left = names if len(mine) == 1 else f"({names})"
    one = mark if len(mine) == 1 else f"({', '.join([mark] * len(mine))})"
    statements: list[Statement] = []
    for start in range(0, len(owners), KEYS_AT_ONCE):
        keys = [owner._key_ for owner in owners[start : start + KEYS_AT_ONCE]]
        listed = ", ".join([one] * len(keys))
        if len(mine) > 1 and target.dialect.row_values_need_values:
            listed = f"VALUES {listed}"
        sql = f"SELECT {names}, {picked} FROM {link.quoted} l JOIN {target.quoted} t ON {on} WHERE {left} IN ({listed})"
        params = keys if len(mine) == 1 else [value for key in keys for value in key]
        statements.append(Statement(sql, params, returns=True))
    results = yield from unit.transaction.read(*statements)
    by_key = {owner._key_: owner for owner in owners}
    items: dict[EntityBase, list[Any]] = {owner: [] for owner in owners}
    width = len(mine)
    for result in results:
        for row in result.rows:
            key = row[0] if width == 1 else tuple(row[:width])
            linked = materialize(unit, target, [row[width:]], target.wide)
            # A new object may have the key of a deleted one, whose links go with it.
            items[by_key[key]] += [item for item in linked if not item._state_.is_new]
    _fill(unit, attribute, items)


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
