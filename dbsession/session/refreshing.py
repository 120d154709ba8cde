"""Forgetting what was loaded of an object, and loading it again: `expire`, `expire_all`, `refresh`.

An expired object is one of which only the key is known, like one that was only referred to; with some attributes
expired, one whose row was loaded in part. Nothing is sent. The first touch loads it, and all of its like with it, in
one round trip, and may find what it wants: nothing counts as read any more.

Within an inner scope the object is kept as it was before, so that a failure of the scope leaves the outer one what it
had read. A rollback of everything needs no such thing: what is to be loaded will be loaded as it is then.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from dbsession.backends.flow import Flow
from dbsession.backends.statements import Result, Statement
from dbsession.errors import InvalidRequestError, ObjectNotFound, OperationWithDeletedObjectError
from dbsession.model.attributes import Attribute
from dbsession.model.collections import Collection, CollectionAttribute
from dbsession.model.entity import EntityBase
from dbsession.model.mapping import Column, Mapping
from dbsession.model.references import ReferenceAttribute
from dbsession.model.state import NOT_LOADED, UNSET, set_row
from dbsession.session.autoflush import flush_ahead_of_rows
from dbsession.session.changes import row_seen, unsaved
from dbsession.session.discarding import discard_changes, discard_links, forget_items
from dbsession.session.loading import materialize
from dbsession.session.lookups import Load, deliver, with_columns
from dbsession.session.relations import items_load, partners_load

if TYPE_CHECKING:
    from dbsession.session.unit_of_work import UnitOfWork

__all__ = ["expire", "expire_all", "refresh"]


class _Parts(NamedTuple):
    """What of an object is meant: columns of its own, one-to-one relations whose column is elsewhere, collections."""

    attributes: tuple[Attribute[Any], ...]
    ends: tuple[ReferenceAttribute, ...]
    collections: tuple[CollectionAttribute, ...]
    is_whole: bool


def expire(unit: UnitOfWork, obj: EntityBase, names: Iterable[Any] = (), *, discard: bool = False) -> None:
    """Forget what was loaded of *obj*, of this unit of work (or of its attributes *names*); the next access loads it.

    What was read counts as read no more. The key stays, and so does what is unsaved in collections, which are loaded
    again, too. *discard*: throw unsaved changes away.

    Raises:
        InvalidRequestError: it has unsaved changes, or is not saved yet.
        OperationWithDeletedObjectError: it was deleted.
        TypeError: there is no such attribute.
    """
    _require_saved(unit, obj, "expire")
    parts = _parts(obj, names)
    _require_settled(obj, parts, "expire", discard=discard)
    if discard:
        _discard(unit, obj, parts)
    before = _references(obj)
    _forget(unit, obj, parts)
    _tell_ends(unit, obj, before)


def expire_all(unit: UnitOfWork) -> None:
    """Forget what was loaded of all objects but those with unsaved changes.

    Collections, and one-to-one relations whose column is elsewhere, are forgotten even of these; what is unsaved in a
    collection stays.
    """
    unit.check_owner()
    for obj in list(unit.identity):
        state = obj._state_
        if not state.may_change or state.is_new:
            continue
        parts = _whole(obj._mapping_)
        _forget(unit, obj, parts._replace(attributes=(), is_whole=False) if unsaved(obj) else parts)


def refresh(
    unit: UnitOfWork,
    obj: EntityBase,
    names: Iterable[Any] = (),
    *,
    for_update: bool = False,
    nowait: bool = False,
    discard: bool = False,
) -> Flow[None]:
    """Load *obj* (or its attributes *names* alone, collections among them) again, in one round trip.

    What was read counts as read no more. Lazy attributes are loaded again if they were loaded; collections when they
    are touched, unless they are named. *for_update*: lock the row until the transaction ends; then all of it is loaded
    again. *nowait*: do not wait for the lock. *discard*: throw unsaved changes away.

    Raises:
        ObjectNotFound: the row is gone; the object stays as it was.
        LockNotAvailable: *nowait*, and somebody else has the lock.
        InvalidRequestError, OperationWithDeletedObjectError, TypeError: as for `expire`.
        OptimisticCheckError: an attribute that has an unsaved change, and is not among *names*, was read before that,
            and is not any more what was read.
    """
    _require_saved(unit, obj, "refresh")
    if nowait and not for_update:
        raise TypeError("nowait=True says not to wait for a lock, and without for_update=True none is asked for")
    parts = _parts(obj, names)
    _require_settled(obj, parts, "refresh", discard=discard)
    # No flush is needed for the row: it is found by the key that it has in the database, and what is unsaved of other
    # objects is not asked for. What is unsaved in a named collection is merged into what comes; only what the database
    # may delete along with other rows has to be deleted before.
    relations: list[Any] = [] if parts.is_whole else [*parts.collections, *parts.ends]
    if relations and discard:
        _discard(unit, obj, parts)
    for relation in relations:
        yield from flush_ahead_of_rows(unit, relation.target)
        _require_saved(unit, obj, "refresh")
    loads = [_row_load(unit, obj, parts, lock=for_update, nowait=nowait, discard=discard)]
    if not parts.is_whole:
        loads += [items_load(unit, each, [obj], is_read=True, refresh=True) for each in parts.collections]
        loads += [partners_load(unit, each, [obj], is_read=True, refresh=True) for each in parts.ends]
    statements = [statement for load in loads for statement in load.statements]
    if for_update:
        results = yield from unit.transaction.write(*statements, is_flush=False, nowait=nowait)
    else:
        results = yield from unit.transaction.read(*statements)
    deliver(loads, results)
    if for_update and not unsaved(obj):  # else it may rest on what the row had before
        unit.exempt.add(obj)


# --- which object, and what of it -----------------------------------------------------------------


def _require_saved(unit: UnitOfWork, obj: EntityBase, verb: str) -> None:
    """Raise unless *obj*, an object of *unit*, has a row to be loaded from."""
    unit.check_owner()
    state = obj._state_
    if state.is_new:
        raise InvalidRequestError(
            f"Cannot {verb} object {obj!r}: it is not saved yet, so that there is nothing to be loaded again; flush() "
            f"saves it"
        )
    if not state.may_change:
        raise OperationWithDeletedObjectError(
            f"Cannot {verb} object {obj!r}: it was deleted in this session; rollback() would bring it back"
        )


def _parts(obj: EntityBase, names: Iterable[Any]) -> _Parts:
    """Return what *names* (names, or attributes: ``User.name``) mean; no names: the whole object."""
    names = list(names)
    if any(isinstance(name, list | tuple | set) for name in names):
        raise TypeError(
            f'attributes are given one by one, as in refresh(obj, "name", User.email), not {names[0]!r:.60}'
        )
    chosen = dict.fromkeys([obj._attribute_(name) for name in names])
    if not chosen:
        return _whole(obj._mapping_)
    return _Parts(
        tuple([each for each in chosen if isinstance(each, Attribute) and not each.is_virtual]),
        tuple([each for each in chosen if isinstance(each, ReferenceAttribute) and each.is_virtual]),
        tuple([each for each in chosen if isinstance(each, CollectionAttribute)]),
        is_whole=False,
    )


def _whole(mapping: Mapping) -> _Parts:
    whole: _Parts | None = mapping.sql.get("whole")
    if whole is None:
        attributes = mapping.attributes.values()
        whole = mapping.sql["whole"] = _Parts(
            tuple([each for each in attributes if not each.is_virtual]),
            tuple([each for each in mapping.reference_attributes if each.is_virtual]),
            tuple(mapping.collections.values()),
            is_whole=True,
        )
    return whole


def _require_settled(obj: EntityBase, parts: _Parts, verb: str, *, discard: bool) -> None:
    """Raise if *parts* of *obj* have unsaved changes, unless they are to be thrown away."""
    changes = unsaved(obj)
    names = [attribute.name for attribute in parts.attributes if attribute.name in changes]
    if names and not discard:
        have = "has an unsaved change" if len(names) == 1 else "have unsaved changes"
        raise InvalidRequestError(
            f"Cannot {verb} object {obj!r}: {', '.join(names)} {have}, which would be lost; flush() saves what is "
            f"unsaved, and {verb}(..., discard=True) throws it away"
        )


# --- what becomes of it ---------------------------------------------------------------------------


def _discard(unit: UnitOfWork, obj: EntityBase, parts: _Parts) -> None:
    discard_changes(unit, obj, [attribute.name for attribute in parts.attributes])
    discard_links(unit, obj, parts.collections)


def _forget(unit: UnitOfWork, obj: EntityBase, parts: _Parts) -> None:
    """Forget *parts* of *obj*, but for what is unsaved."""
    if unit.savepoint is not None:
        unit.savepoint.keep_all((obj,))
    unit.journal.forgetting(obj)
    mapping, values, changes = obj._mapping_, obj.__dict__, unsaved(obj)
    key = obj._key_
    if parts.is_whole and not changes:
        # Whoever holds a collection keeps it; the ends of one-to-one relations are popped below.
        in_other_tables = {name: values[name] for name in values if getattr(mapping.member(name), "is_virtual", False)}
        values.clear()
        values.update(in_other_tables)
        if obj._state_.is_undone:
            unit.journal.forgive(obj, unit.states)
        set_row(obj, mapping.hollow_row(key))
    else:
        row = list(obj._row_)
        for attribute in parts.attributes:
            if attribute.name not in changes:
                values.pop(attribute.name, None)
                for column in attribute.columns:
                    if not column.is_key:
                        row[column.position] = NOT_LOADED
        set_row(obj, tuple(row))
    identity = unit.identity
    for end in parts.ends:
        if values.pop(end.name, UNSET) is not UNSET:
            identity.note_expired_end(obj, end.name)
    for collection_attribute in parts.collections:
        if collection_attribute.name in values:
            _forget_items(unit, values[collection_attribute.name])
    if mapping.is_hollow(row_seen(obj, changes)) and identity.of(mapping).get(key) is obj:
        identity.hollow_of(mapping)[key] = obj
    identity.note_expired(mapping, key)


def _forget_items(unit: UnitOfWork, collection: Collection[Any]) -> None:
    if collection.is_loaded:
        unit.identity.note_expired_end(collection.owner, collection.attribute.name)
    forget_items(unit, collection)


def _row_load(unit: UnitOfWork, obj: EntityBase, parts: _Parts, *, lock: bool, nowait: bool, discard: bool) -> Load:
    """Return what loads *parts* of *obj* again as far as its row has them; all of it, if it is to be locked."""
    mapping = obj._mapping_
    # What a lock returns is what the locked row holds.
    forgotten = parts._replace(attributes=_whole(mapping).attributes) if lock else parts
    whole = parts.is_whole or lock
    source = _source(obj, parts, whole=whole)

    def take(results: list[Result]) -> None:
        rows = results[0].rows if source else []
        if source and not rows:
            raise ObjectNotFound(
                f"{obj!r} cannot be refreshed: there is no row with this key (anymore); somebody has deleted it",
                entity=type(obj),
                key=obj.get_pk(),
            )
        before = _references(obj)
        if discard:
            _discard(unit, obj, parts)
        if unit.transaction.wrote:  # what comes may be gone with a rollback; the owners of the object know the old row
            unit.journal.merging(obj)
        _forget(unit, obj, forgotten)
        fresh = unit.fresh
        if not whole:  # the rest of it may have been read in an earlier transaction, and counts as read then
            unit.fresh = None
        try:
            materialize(unit, mapping, rows, source, refresh=True)
        finally:
            unit.fresh = fresh
        _tell_ends(unit, obj, before)

    return Load([_select(unit, obj, source, lock=lock, nowait=nowait)] if source else [], take)


def _source(obj: EntityBase, parts: _Parts, *, whole: bool) -> tuple[Column, ...]:
    """Return the columns to be loaded; none, if *parts* all lie in other tables."""
    mapping, row = obj._mapping_, obj._row_
    named = () if parts.is_whole else parts.attributes
    if whole:
        lazy = [each for each in mapping.attributes.values() if each.is_lazy and not each.is_virtual]
        loaded = [each for each in lazy if each.name in obj.__dict__ or row[each.position] is not NOT_LOADED]
        return with_columns(mapping.wide, (*named, *loaded))
    if not named:
        return ()
    kind = mapping.root.discriminator
    return with_columns(mapping.key_columns, (kind, *named) if kind is not None else named)


def _select(unit: UnitOfWork, obj: EntityBase, source: tuple[Column, ...], *, lock: bool, nowait: bool) -> Statement:
    mapping, key = obj._mapping_, obj._key_
    mark = unit.dialect.placeholder
    columns = ", ".join([column.quoted for column in source])
    where = " AND ".join([f"{column.quoted} = {mark}" for column in mapping.key_columns])
    sql = f"SELECT {columns} FROM {mapping.quoted} WHERE {where}"
    if lock and unit.dialect.has_row_locks:
        sql += " FOR UPDATE NOWAIT" if nowait else " FOR UPDATE"
    return Statement(sql, key if isinstance(key, tuple) else (key,), returns=True)


def _references(obj: EntityBase) -> dict[str, Any]:
    """Return the keys that the row of *obj* refers to, as far as they are loaded, by attribute."""
    found = {each.name: each.key_in(obj._row_) for each in obj._mapping_.reference_attributes if not each.is_virtual}
    return {name: key for name, key in found.items() if key is not NOT_LOADED}


def _tell_ends(unit: UnitOfWork, obj: EntityBase, before: dict[str, Any]) -> None:
    """Let the other ends of references that have changed, or are forgotten, be loaded again when they are needed.

    They list an object that may be elsewhere by now, and that could not tell them if it were assigned or deleted.
    """
    now = _references(obj)
    for name, old in before.items():
        reference: Any = obj._mapping_.attributes[name]
        new = now.get(name)
        if new == old or reference.reverse is None or name in unsaved(obj):
            continue
        for key in (old, new):
            owner = None if key is None else unit.find(reference.target, key)
            if owner is not None and owner._state_.may_change and reference.reverse.name in owner.__dict__:
                _forget_end(unit, owner, reference.reverse)


def _forget_end(unit: UnitOfWork, owner: EntityBase, attribute: Any) -> None:
    if isinstance(attribute, CollectionAttribute):
        if not owner._state_.is_new and owner.__dict__[attribute.name].is_loaded:
            _forget_items(unit, owner.__dict__[attribute.name])
    elif attribute.is_virtual:
        if unit.savepoint is not None:
            unit.savepoint.back_reference_changing(owner, attribute.name)
        del owner.__dict__[attribute.name]
        unit.identity.note_expired_end(owner, attribute.name)
