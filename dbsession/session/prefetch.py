"""Loading ahead: what the objects of a query refer to, and what belongs to them, in one round trip for each step.

Each round looks at the objects that the last one has reached, and collects what they lack: the rows that references
lead to, by table; lazy columns; collections and the ends of one-to-one relations, by attribute. Nothing of that
counts as read. References are not read even here, so the identity map notes them, and lets them be read after the
scope (see `IdentityMap.note_followed`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

from dbsession.backends.flow import Flow
from dbsession.model.attributes import PendingExpression
from dbsession.model.collections import CollectionAttribute
from dbsession.model.entity import EntityBase
from dbsession.model.mapping import Column, Mapping
from dbsession.model.references import ReferenceAttribute
from dbsession.model.state import NOT_LOADED, UNSET, Status
from dbsession.query.prefetched import Prefetched, Relation
from dbsession.session.autoflush import flush_ahead_of_rows
from dbsession.session.loading import columns_load, rows_load
from dbsession.session.lookups import Load, run_loads, with_columns
from dbsession.session.relations import asked_again, items_load, partners_load

if TYPE_CHECKING:
    from dbsession.session.unit_of_work import UnitOfWork

__all__ = ["prefetch"]

_Objects: TypeAlias = dict[EntityBase, None]
_Left: TypeAlias = tuple[Relation, ...]


def prefetch(unit: UnitOfWork, objects: Iterable[EntityBase], wanted: Prefetched) -> Flow[None]:
    """Load what is *wanted* from *objects* on, as far as it is not in memory."""
    groups: dict[_Left, _Objects] = {wanted.relations: dict.fromkeys(objects)}
    seen: dict[_Left, _Objects] = {}
    round_trip = _RoundTrip(unit, wanted)
    round_trip.complete(groups[wanted.relations])
    while groups:
        followed: list[tuple[Relation, _Objects, _Left]] = []
        for left, reached in groups.items():
            seen.setdefault(left, {}).update(reached)
            for mapping, owners in _by_mapping(reached).items():
                for relation, rest in wanted.steps(mapping, left):
                    round_trip.follow(relation, owners)
                    if wanted.leads_on(relation.target, rest):
                        followed.append((relation, owners, rest))
        for relation in round_trip.relations:
            yield from flush_ahead_of_rows(unit, relation.target)
        yield from run_loads(unit, round_trip.loads())
        round_trip, groups = _RoundTrip(unit, wanted), {}
        for relation, owners, rest in followed:
            before = seen.get(rest, {})
            for target in _targets(unit, relation, owners):
                if target not in before:
                    groups.setdefault(rest, {})[target] = None


def _by_mapping(objects: Iterable[EntityBase]) -> dict[Mapping, _Objects]:
    groups: dict[Mapping, _Objects] = {}
    for obj in objects:
        groups.setdefault(obj._mapping_, {})[obj] = None
    return groups


def _targets(unit: UnitOfWork, relation: Relation, owners: Iterable[EntityBase]) -> _Objects:
    """Return the objects that *relation* leads to from *owners*, all of which are in memory by now."""
    if isinstance(relation, CollectionAttribute):
        return {item: None for owner in owners for item in relation.of(owner).known}
    known = dict.fromkeys([relation.known(owner, unit) for owner in owners])
    known.pop(None, None)
    return {target: None for target in known if target is not None and target._state_.may_change}


class _RoundTrip:
    """What one round trip brings."""

    def __init__(self, unit: UnitOfWork, wanted: Prefetched) -> None:
        self._unit = unit
        self._wanted = wanted
        self._rows: dict[Mapping, dict[Any, None]] = {}  # keys of objects of which nothing else is known, by table
        self._columns: dict[tuple[Mapping, tuple[Column, ...]], dict[Any, None]] = {}  # keys of those without columns
        self._owners: dict[Any, tuple[Relation, _Objects]] = {}  # by the attribute on the other side

    def follow(self, relation: Relation, owners: _Objects) -> None:
        """Take note of what *owners* lack of *relation*, and of what is known of it and incomplete."""
        known: _Objects = {}
        if isinstance(relation, CollectionAttribute):
            lacking = {owner: None for owner in owners if not relation.of(owner).is_loaded}
            known.update({item: None for owner in owners if owner not in lacking for item in relation.of(owner).known})
        elif relation.is_virtual:
            lacking = {owner: None for owner in owners if self._lacks_partner(owner, relation)}
            known.update({owner.__dict__[relation.name]: None for owner in owners if relation.name in owner.__dict__})
        else:
            self._follow_reference(relation, owners, known)
            lacking = {}
        if lacking:
            self._owners.setdefault(relation.reverse, (relation, {}))[1].update(lacking)
        known.pop(None, None)  # type: ignore[call-overload]
        self.complete(known)

    @staticmethod
    def _lacks_partner(owner: EntityBase, attribute: ReferenceAttribute) -> bool:
        return attribute.name not in owner.__dict__ and owner._state_.is_persistent

    def _follow_reference(self, attribute: ReferenceAttribute, owners: _Objects, known: _Objects) -> None:
        identity, target = self._unit.identity, attribute.target
        identity.note_followed(attribute, owners)
        objects = identity.of(target)
        name, key_in = attribute.name, attribute.key_in
        missing: dict[Any, None] = {}
        for owner in owners:
            value = owner.__dict__.get(name, UNSET)
            if value is UNSET:
                key = key_in(owner._row_)
                if key is None or key is NOT_LOADED:
                    continue
                value = objects.get(key)
                if value is None:
                    missing[key] = None
                    continue
            known[value] = None
        if missing:
            self._rows.setdefault(target.root, {}).update(missing)

    def complete(self, known: _Objects) -> None:
        """Take note of what objects lack that are in memory: all but the key, or lazy columns."""
        for mapping, objects in _by_mapping(known).items():
            hollow = self._unit.identity.hollow_of(mapping)
            lazy = self._wanted.lazy_attributes(mapping)
            own = [attribute for attribute in lazy if issubclass(mapping.entity, attribute.mapping.entity)]
            if not hollow and not own:
                continue
            for obj in objects:
                if not obj._state_.is_persistent:
                    continue
                key = obj._key_
                if hollow.get(key) is obj:
                    self._rows.setdefault(mapping.root, {})[key] = None
                    continue
                columns = _lacking(obj, [mapping.attributes[attribute.name] for attribute in own])
                if columns:
                    self._columns.setdefault((mapping, columns), {})[key] = None

    @property
    def relations(self) -> list[Relation]:
        """The relations whose other ends lie in other tables, and are to be loaded from them."""
        return [relation for relation, _ in self._owners.values()]

    def loads(self) -> list[Load]:
        """Return what loads it all."""
        unit, lazy = self._unit, self._wanted.lazy_attributes
        loads: list[Load] = []
        for base, keys in self._rows.items():
            more = lazy(base)
            loads.append(rows_load(unit, base, keys, with_columns(base.wide, more) if more else ()))
        for (mapping, columns), keys in self._columns.items():
            loads.append(columns_load(unit, mapping, columns, keys))
        for relation, owners in self._owners.values():
            more = lazy(relation.target)
            for group, again in asked_again(unit, relation, owners):
                if isinstance(relation, CollectionAttribute):
                    loads.append(items_load(unit, relation, group, more, is_read=False, refresh=again))
                else:
                    loads.append(partners_load(unit, relation, group, more, is_read=False, refresh=again))
        return loads


def _lacking(obj: EntityBase, attributes: Iterable[Any]) -> tuple[Column, ...]:
    """Return the columns of *attributes* that the row of *obj* lacks, and that no unsaved value stands for."""
    row = obj._row_
    changes: dict[str, Any] = obj._changes_ if obj._state_.status is Status.DIRTY else {}
    return tuple(
        [
            column
            for attribute in attributes
            for column in attribute.columns
            if row[column.position] is NOT_LOADED
            and attribute.name not in obj.__dict__
            and not isinstance(changes.get(attribute.name), PendingExpression)
        ]
    )
