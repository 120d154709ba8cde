"""The order of a flush: parents before children, values freed before they are taken, then by key.

Usually the numbers that tables were given (`Mapping.rank`) are the whole story: inserts by table,
updates by table and key, deletes by table from the last to the first. Two cases need to look at the
objects: tables that refer to each other in a circle (trees, above all), and a unique value that one
row gives up and another one takes in the same flush. Then the operations form a graph, which is
sorted with the usual order as the tie-break. A circle in the graph is broken where a column may be
NULL for a while; where none may, `UnresolvableCyclicDependency` names the circle.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from enum import IntEnum
from typing import Any, NamedTuple

from dbsession.errors import UnresolvableCyclicDependency
from dbsession.model.attributes import Attribute, PendingExpression, ReferenceAttribute
from dbsession.model.entity import EntityBase
from dbsession.model.mapping import Mapping
from dbsession.model.state import UNSET, Status
from dbsession.session.writes import raw_value

__all__ = ["Action", "Operation", "Pending", "in_order"]


class Action(IntEnum):
    """What is done to a row; the numbers are the usual order."""

    VACATE = 0  # set unique columns to NULL, so that another row can take their values
    INSERT = 1
    UPDATE = 2
    DELETE = 3


class Operation(NamedTuple):
    """One thing to do to one row. `names` are the attributes that a VACATE empties, or an INSERT leaves NULL at first."""

    action: Action
    obj: EntityBase
    names: tuple[str, ...] = ()


class Pending(NamedTuple):
    """The unsaved objects of a unit of work."""

    new: list[EntityBase]
    dirty: list[EntityBase]
    deleted: list[EntityBase]

    def __bool__(self) -> bool:
        return bool(self.new or self.dirty or self.deleted)


Group = tuple[str, ...]
Value = tuple[Mapping, Group, tuple[Any, ...]]


def in_order(pending: Pending) -> list[Operation]:
    """Return the operations that save *pending*, in the order in which they have to be sent."""
    usual = _usual_order(pending)
    freed = _freed(pending)
    if not freed and not any(operation.obj._mapping_.refers_to_itself for operation in usual):
        return usual
    return _Graph(usual, freed).sorted()


def _usual_order(pending: Pending) -> list[Operation]:
    operations = [Operation(Action.INSERT, obj) for obj in _by_table(pending.new, known_keys=False)]
    operations += [Operation(Action.UPDATE, obj) for obj in _by_table(pending.dirty)]
    operations += [Operation(Action.DELETE, obj) for obj in _by_table(pending.deleted, reverse=True)]
    return operations


def _by_table(objects: list[EntityBase], *, known_keys: bool = True, reverse: bool = False) -> Iterable[EntityBase]:
    tables: dict[Mapping, list[EntityBase]] = {}
    for obj in objects:
        root = obj._mapping_.root
        if root in tables:
            tables[root].append(obj)
        else:
            tables[root] = [obj]
    for root in sorted(tables, key=lambda mapping: (mapping.rank, mapping.name), reverse=reverse):
        members = tables[root]
        # New objects whose keys the database makes keep the order in which they were made.
        if len(members) > 1 and (known_keys or root.auto_column is None):
            members.sort(key=_sortable_key)
        yield from members


def _sortable_key(obj: EntityBase) -> Any:
    key = obj._key_
    if isinstance(key, tuple):
        return tuple([(part is None, type(part).__name__, part) for part in key])
    return (key is None, type(key).__name__, key)


# --- unique values ---------------------------------------------------------------------------------


def _groups(mapping: Mapping) -> list[Group]:
    """Return the groups of attributes that are unique together, the key among them."""
    groups: list[Group] | None = mapping.sql.get("unique groups")
    if groups is None:
        groups = [tuple([part.name for part in mapping.key])]
        for attribute in mapping.attributes.values():
            one_to_one = isinstance(attribute, ReferenceAttribute) and isinstance(attribute.reverse, ReferenceAttribute)
            if (attribute.is_unique or one_to_one) and not attribute.is_virtual:
                groups.append((attribute.name,))
        groups += [tuple([part.name for part in parts]) for composite, parts in mapping.composites if composite.is_unique]
        mapping.sql["unique groups"] = groups
    return groups


def _row_value(obj: EntityBase, group: Group) -> Value | None:
    """Return what the row of *obj* holds of *group* in the database."""
    attributes = obj._mapping_.attributes
    changes: dict[str, Any] = obj._changes_ if obj._state_.status is Status.DIRTY else {}
    values: list[Any] = []
    for name in group:
        pending = changes.get(name)
        if isinstance(pending, PendingExpression):
            values.append(pending.raw)
        else:
            values += [obj._row_[column.position] for column in attributes[name].columns]
    return None if None in values else (obj._mapping_.root, group, tuple(values))


def _new_value(obj: EntityBase, group: Group) -> Value | None:
    """Return what the row of *obj* will hold of *group*; None where that cannot clash."""
    values: list[Any] = []
    for name in group:
        attribute = obj._mapping_.attributes[name]
        if obj._state_.is_new and obj.__dict__.get(name, UNSET) is UNSET:
            return None  # the database makes it
        raw = raw_value(obj, attribute)
        values += raw if isinstance(raw, tuple) else (raw,)
    return None if None in values else (obj._mapping_.root, group, tuple(values))


def _freed(pending: Pending) -> dict[Value, Operation]:
    """Return the unique values that this flush gives up, with the operation that does."""
    freed: dict[Value, Operation] = {}
    for obj in pending.deleted:
        for group in _groups(obj._mapping_):
            if (value := _row_value(obj, group)) is not None:
                freed[value] = Operation(Action.DELETE, obj)
    for obj in pending.dirty:
        for group in _groups(obj._mapping_):
            if not obj._changes_.keys().isdisjoint(group):
                value = _row_value(obj, group)
                if value is not None and value != _new_value(obj, group):
                    freed[value] = Operation(Action.UPDATE, obj)
    return freed


# --- the graph ---------------------------------------------------------------------------------------


class _Graph:
    """Operations, and which has to wait for which."""

    def __init__(self, usual: list[Operation], freed: dict[Value, Operation]) -> None:
        self.operations = list(usual)
        self.number = {(operation.action, id(operation.obj)): index for index, operation in enumerate(usual)}
        self.waits: list[set[int]] = [set() for _ in usual]  # for each operation, those that come before it
        self.deleted = {
            (operation.obj._mapping_.root, operation.obj._key_): index
            for index, operation in enumerate(usual)
            if operation.action is Action.DELETE
        }
        # why an edge is there, where it can be taken away: the attributes to leave NULL for a while
        self.breakable: dict[tuple[int, int], Operation] = {}
        for index, operation in enumerate(usual):
            self._add_references(index, operation)
            if freed and operation.action is not Action.DELETE:
                self._add_uniques(index, operation, freed)

    def _add_references(self, index: int, operation: Operation) -> None:
        obj = operation.obj
        changes: dict[str, Any] = obj._changes_ if obj._state_.status is Status.DIRTY else {}
        for attribute in obj._mapping_.reference_attributes:
            if attribute.is_virtual:
                continue
            if operation.action is not Action.INSERT:
                parent = self.deleted.get((attribute.target.root, attribute.key_in(obj._row_)))
                if parent is not None and parent != index:
                    self.waits[parent].add(index)
                    if operation.action is Action.DELETE and attribute.nullable:
                        self.breakable[index, parent] = Operation(Action.DELETE, obj, (attribute.name,))
            if operation.action is Action.INSERT or (operation.action is Action.UPDATE and attribute.name in changes):
                target = obj.__dict__.get(attribute.name)
                before = self.number.get((Action.INSERT, id(target)))
                if before is not None and (before != index or operation.action is Action.INSERT):
                    self._wait_for_parent(index, before, obj, attribute)

    def _wait_for_parent(self, index: int, before: int, obj: EntityBase, attribute: Attribute[Any]) -> None:
        self.waits[index].add(before)
        if attribute.nullable and self.operations[index].action is Action.INSERT:
            names = self.breakable[before, index].names if (before, index) in self.breakable else ()
            self.breakable[before, index] = Operation(Action.INSERT, obj, (*names, attribute.name))

    def _add_uniques(self, index: int, operation: Operation, freed: dict[Value, Operation]) -> None:
        obj = operation.obj
        for group in _groups(obj._mapping_):
            value = _new_value(obj, group)
            giver = freed.get(value) if value is not None else None
            if giver is None or giver.obj is obj:
                continue
            before = self.number[giver.action, id(giver.obj)]
            self.waits[index].add(before)
            nullable = [name for name in group if giver.obj._mapping_.attributes[name].nullable]
            if giver.action is Action.UPDATE and nullable:
                self.breakable[before, index] = Operation(Action.VACATE, giver.obj, (nullable[0],))

    def sorted(self) -> list[Operation]:
        """Sort, breaking circles where that is possible."""
        waits = [set(before) for before in self.waits]
        followers: dict[int, list[int]] = {}
        for index, before in enumerate(waits):
            for other in before:
                followers.setdefault(other, []).append(index)
        ready = [index for index, before in enumerate(waits) if not before]
        heapq.heapify(ready)
        done: list[Operation] = []
        left = set(range(len(self.operations)))
        first: list[Operation] = []
        last: list[Operation] = []
        while left:
            if not ready:
                self._break(waits, left, first, last)
                ready = [index for index in left if not waits[index]]
                heapq.heapify(ready)
            index = heapq.heappop(ready)
            left.discard(index)
            done.append(self.operations[index])
            for follower in followers.get(index, ()):
                if index in waits[follower]:
                    waits[follower].discard(index)
                    if not waits[follower] and follower in left:
                        heapq.heappush(ready, follower)
        return [*first, *done, *last]

    def _break(self, waits: list[set[int]], left: set[int], first: list[Operation], last: list[Operation]) -> None:
        """Take one edge of a circle away, by leaving a column NULL for a while."""
        circle = self._circle(waits, left)
        for before, after in zip(circle, [*circle[1:], circle[0]], strict=True):
            way_out = self.breakable.get((before, after))
            if way_out is None:
                continue
            waits[after].discard(before)
            if way_out.action is Action.VACATE:
                first.append(way_out)
            elif way_out.action is Action.INSERT:
                operation = self.operations[after]
                self.operations[after] = operation._replace(names=(*operation.names, *way_out.names))
                last.append(Operation(Action.UPDATE, way_out.obj))
            else:
                operation = self.operations[before]
                self.operations[before] = operation._replace(names=(*operation.names, *way_out.names))
            return
        names = " -> ".join(f"{self.operations[index].action.name.lower()} {self.operations[index].obj!r}" for index in circle)
        raise UnresolvableCyclicDependency(
            f"cannot save a circle: {names} -> {self.operations[circle[0]].action.name.lower()} "
            f"{self.operations[circle[0]].obj!r}; each of them has to come before the next. "
            f"Make one of the columns nullable, or flush() in between with a temporary value"
        )

    @staticmethod
    def _circle(waits: list[set[int]], left: set[int]) -> list[int]:
        """Return a circle, each member of which has to come before the next."""
        path: list[int] = []
        seen: dict[int, int] = {}
        index = min(left)
        while index not in seen:
            seen[index] = len(path)
            path.append(index)
            index = min(waits[index])
        return path[seen[index] :][::-1]
